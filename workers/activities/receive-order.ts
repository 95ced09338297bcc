import type { State } from '@trellis/contracts/lifecycle';
import { OrderInput } from '@trellis/contracts/order';
import { requestHash } from '@trellis/contracts/request-hash';
import type { Run } from '@trellis/contracts/temporal';
import type { OrderStore } from '@trellis/drizzle/orders';
import * as v from 'valibot';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export interface ReceiveOrderInput extends ActivityInput {
  run: Run;
  /** As the caller sent it, sound or not: it is judged by `validate_order`. */
  order: unknown;
}

/** Makes the order's row and binds it to the asking run, the first of which owns it. */
export function createReceiveOrder(deps: AttemptDeps & { orders: OrderStore }) {
  return async function receive_order(input: ReceiveOrderInput): Promise<{ owner: boolean; state: State }> {
    return attempt(deps, input, () => receive(deps.orders, input));
  };
}

/** Also run by `close_order`, so that an order which never got this far has a row to be closed. */
export async function receive(orders: OrderStore, { order_id, order, run }: ReceiveOrderInput) {
  const parsed = v.safeParse(OrderInput, order);
  if (parsed.success) return orders.receive({ ...parsed.output, order_id }, run, await requestHash(parsed.output));
  return orders.receive({ ...salvage(order), order_id }, run, null);
}

/** What is sound of an order that as a whole isn't; all of it as it was sent stands in the workflow's history. */
function salvage(order: unknown): Partial<OrderInput> {
  const given: Record<string, unknown> = order !== null && typeof order === 'object' ? { ...order } : {};
  const { payment_id, address, items } = OrderInput.entries;
  return {
    ...(v.is(payment_id, given.payment_id) ? { payment_id: given.payment_id } : {}),
    ...(v.is(address, given.address) ? { address: given.address } : {}),
    ...(v.is(items, given.items) ? { items: given.items } : {}),
  };
}
