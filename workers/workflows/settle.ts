/** Settles an order whose run was ended from outside, by a termination or the caller's timeout: its money goes back, unless its parcel has left. */

import { ID_PATTERN } from '@trellis/contracts/id';
import type { Ending, State } from '@trellis/contracts/lifecycle';
import { runRemotely } from './steps.ts';

/** Answers the state the order is closed in; undefined when there is nothing to settle. Running it again is harmless. */
export async function SettleWorkflow(input: { order_id: string }): Promise<State | undefined> {
  const order_id = input?.order_id;
  if (typeof order_id !== 'string' || !ID_PATTERN.test(order_id)) return undefined;
  const abandoned = await runRemotely('load_abandoned', { order_id });
  if (!abandoned.open) return abandoned.state;
  const { order, run, progress, priced } = abandoned;
  const ending: Ending = { state: 'failed', reason: 'DEADLINE', detail: 'its run was ended from outside' };
  const { payment_id } = order;
  if (!priced || payment_id === undefined) {
    const closed = await runRemotely('close_order', { order_id, order, run, ending, progress });
    return closed === 'owed' ? undefined : closed;
  }
  const refunded = await runRemotely('refund_payment', { order_id, payment_id, ending, progress });
  if (refunded.outcome === 'closed') return refunded.state;
  return runRemotely('mark_shipped', { order_id, progress });
}
