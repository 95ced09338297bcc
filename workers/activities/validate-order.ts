import type { Problem } from '@trellis/contracts/error';
import { shopOf } from '@trellis/contracts/id';
import { OrderInput, problemsOf } from '@trellis/contracts/order';
import { priceOf } from '@trellis/contracts/pricing';
import type { OrderStore } from '@trellis/drizzle/orders';
import type { PriceStore } from '@trellis/drizzle/prices';
import * as v from 'valibot';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export type Validated = { valid: true } | { valid: false; problems: Problem[] };

/** Validates the order by the same schema and the same price list as the API, prices it, and opens the review. */
export function createValidateOrder(deps: AttemptDeps & { orders: OrderStore; prices: PriceStore }) {
  return async function validate_order(input: ActivityInput & { order: unknown }): Promise<Validated> {
    return attempt(deps, input, async () => {
      const parsed = v.safeParse(OrderInput, input.order);
      if (!parsed.success) return { valid: false, problems: problemsOf(parsed.issues) };
      const { order_id, payment_id, items } = parsed.output;
      if (shopOf(payment_id) !== shopOf(order_id))
        return { valid: false, problems: [{ path: 'payment_id', message: 'must be of the shop of the order' }] };
      const list = await deps.prices.of(
        shopOf(order_id),
        items.map(({ sku }) => sku),
      );
      const { price, problems } = priceOf(items, list);
      return (await deps.orders.validated(input.order_id, price)) ? { valid: true } : { valid: false, problems };
    });
  };
}
