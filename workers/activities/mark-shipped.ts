import type { Progress } from '@trellis/contracts/order-status';
import type { TerminalState } from '@trellis/contracts/states-and-steps';
import type { OrderStore } from '@trellis/drizzle/orders';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

/** Records that the parcel has left. It has no deadline: the parcel can't be called back, so this must be recorded however late. */
export function createMarkShipped(deps: AttemptDeps & { orders: OrderStore }) {
  return async function mark_shipped(input: ActivityInput & { progress: Progress }): Promise<TerminalState> {
    return attempt(deps, input, () => deps.orders.shipped(input.order_id, input.progress));
  };
}
