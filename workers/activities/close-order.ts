import type { Decisions } from '@trellis/contracts/actor';
import type { Progress } from '@trellis/contracts/order-status';
import type { Ending, State } from '@trellis/contracts/states-and-steps';
import { type AttemptDeps, attempt } from './attempt.ts';
import { type ReceiveDeps, type ReceiveOrderInput, receive } from './receive-order.ts';

export interface CloseOrderInput extends ReceiveOrderInput {
  ending: Ending;
  progress: Progress;
  /** Absent from a workflow of a version up to 0.5, and from SettleWorkflow. */
  decisions?: Decisions;
}

/** Writes the end of an order that was not charged. Returns `owed`, and writes nothing, when it may have been charged after all. */
export function createCloseOrder(deps: AttemptDeps & ReceiveDeps) {
  const { orders } = deps;
  return async function close_order(input: CloseOrderInput): Promise<State | 'owed'> {
    return attempt(deps, input, async () => {
      const { owner, state } = await receive(deps, input);
      return owner ? orders.end(input.order_id, input.ending, input.progress, input.decisions ?? {}) : state;
    });
  };
}
