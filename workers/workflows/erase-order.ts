/** Erases the personal data of an order that has ended. */
import { actorIn } from '@trellis/contracts/actor';
import { RECORDED_ID_PATTERN } from '@trellis/contracts/id';
import type { State } from '@trellis/contracts/states-and-steps';
import type { EraseInput } from '@trellis/contracts/temporal';
import { runRemotely } from './run-activity.ts';

/** Returns the order's state, undefined when there is no such order; one that is open stays as it is. May be run any number of times. */
export async function EraseWorkflow(input: EraseInput): Promise<State | undefined> {
  const order_id = input?.order_id;
  if (typeof order_id !== 'string' || !RECORDED_ID_PATTERN.test(order_id)) return undefined;
  return runRemotely('erase_order', { order_id, actor: actorIn(input.erased_by) });
}
