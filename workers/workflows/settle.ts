/** Settles an order whose run was ended from outside, by a termination or the caller's timeout: its money goes back, unless its parcel has left. */
import type { Ending, State } from '@trellis/contracts/lifecycle';
import { runRemotely } from './steps.ts';

/** Answers the state the order is closed in. Running it again, or beside a run that turns out to be alive, is harmless. */
export async function SettleWorkflow({ order_id }: { order_id: string }): Promise<State | undefined> {
  const abandoned = await runRemotely('load_abandoned', { order_id });
  if (!abandoned.open) return abandoned.state;
  const { order, run, progress, priced } = abandoned;
  const ending: Ending = { state: 'failed', reason: 'DEADLINE', detail: 'its run was ended from outside' };
  if (!priced || order.payment_id === undefined)
    return runRemotely('close_order', { order_id, order, run, ending, progress });
  const { payment_id } = order;
  const refunded = await runRemotely('refund_payment', { order_id, payment_id, ending, progress });
  if (refunded.outcome === 'closed') return refunded.state;
  return runRemotely('mark_shipped', { order_id, progress });
}
