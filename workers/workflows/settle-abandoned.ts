/** Settles an order whose run was ended from outside, as by a termination: refunds it, or marks it shipped if its parcel has left. */

import { patched } from '@temporalio/workflow';
import { cancelReasonOf } from '@trellis/contracts/commands';
import { RECORDED_ID_PATTERN } from '@trellis/contracts/id';
import type { Ending, State } from '@trellis/contracts/states-and-steps';
import type { SettleInput } from '@trellis/contracts/temporal';
import { runRemotely } from './run-activity.ts';

/** Returns the order's state afterwards; undefined when there is nothing to settle. May be run any number of times. */
export async function SettleWorkflow(input: SettleInput): Promise<State | undefined> {
  const order_id = input?.order_id;
  if (typeof order_id !== 'string' || !RECORDED_ID_PATTERN.test(order_id)) return undefined;
  const abandoned = await runRemotely('load_abandoned', { order_id });
  if (!abandoned.open) return abandoned.state;
  const { order, run, progress, priced } = abandoned;
  const { payment_id } = order;
  const ending = endingFrom(input);
  // Version 0.1.0 always refunded, which binds the payment's key to this order even if the order never used it.
  if (patched('close before refund') || !priced) {
    const closed = await runRemotely('close_order', { order_id, order, run, ending, progress });
    if (closed !== 'owed') return closed;
  }
  if (payment_id === undefined) return undefined;
  const refunded = await runRemotely('refund_payment', { order_id, payment_id, ending, progress });
  if (refunded.outcome === 'closed') return refunded.state;
  return runRemotely('mark_shipped', { order_id, progress });
}

function endingFrom({ cancel_reason }: SettleInput): Ending {
  if (typeof cancel_reason === 'string') return { state: 'canceled', reason: cancelReasonOf(cancel_reason) };
  return { state: 'failed', reason: 'DEADLINE', detail: 'its run was ended from outside' };
}
