import type { Problem } from '@trellis/contracts/error';
import { shopOf } from '@trellis/contracts/id';
import { OrderInput, problemsOf } from '@trellis/contracts/order';
import type { OrderStore } from '@trellis/drizzle/orders';
import * as v from 'valibot';
import { priceOf } from '../pricing.ts';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export type Validated = { valid: true } | { valid: false; problems: Problem[] };

/** Validates the order by the same schema as the API, prices it, and opens the review. */
export function createValidateOrder(deps: AttemptDeps & { orders: OrderStore }) {
  return async function validate_order(input: ActivityInput & { order: unknown }): Promise<Validated> {
    return attempt(deps, input, async () => {
      const parsed = v.safeParse(OrderInput, input.order);
      if (!parsed.success) return { valid: false, problems: problemsOf(parsed.issues) };
      const { order_id, payment_id } = parsed.output;
      if (shopOf(payment_id) !== shopOf(order_id))
        return { valid: false, problems: [{ path: 'payment_id', message: 'must be of the shop of the order' }] };
      await deps.orders.validated(input.order_id, priceOf(parsed.output.items));
      return { valid: true };
    });
  };
}
