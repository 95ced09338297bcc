import type { ClosedState } from '@trellis/contracts/lifecycle';
import type { OrderStore, Progress } from '@trellis/drizzle/orders';
import { type Attempting, attempt, type Work } from './attempt.ts';

/** Writes down that the parcel has left. It has no deadline: what has happened has happened. */
export function createMarkShipped(deps: Attempting & { orders: OrderStore }) {
  return async function mark_shipped(input: Work & { progress: Progress }): Promise<ClosedState> {
    return attempt(deps, input, () => deps.orders.shipped(input.order_id, input.progress));
  };
}
