import { Context } from '@temporalio/activity';
import type { Actor } from '@trellis/contracts/actor';
import { isTerminal, type State } from '@trellis/contracts/states-and-steps';
import type { ErasureStore } from '@trellis/drizzle/erasure';
import type { Runs } from '../jobs/runs.ts';
import type { Carrier } from '../providers/carrier.ts';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

/** The run of an ended order has this long to end; then it is terminated, as it can change nothing any more. */
const RUN_ENDS_WITHIN_MS = 60_000;

export interface EraseOrderInput extends ActivityInput {
  /** Who asked for it. */
  actor: Actor;
}

/**
 * Erases an ended order at Temporal, at the carrier and in SQL, in this sequence: so the order is marked as erased once nothing of it is
 * left, and whatever ends this before is made up for by the next call. Returns the order's state, undefined when there is no such order. One
 * that is open, or erased, stays as it is.
 */
export function createEraseOrder(
  deps: AttemptDeps & { erasure: ErasureStore; carrier: Carrier } & Pick<
      Runs,
      'goesOn' | 'terminate' | 'deleteHistories'
    >,
) {
  const { clock, erasure, carrier, goesOn, terminate, deleteHistories } = deps;
  return async function erase_order(input: EraseOrderInput): Promise<State | undefined> {
    const { order_id, actor } = input;
    const patienceEnds = Context.current().info.scheduledTimestampMs + RUN_ENDS_WITHIN_MS;
    return attempt(deps, input, async () => {
      const found = await erasure.find(order_id);
      if (!found || !isTerminal(found.state) || found.erased_at !== null) return found?.state;
      const { run, child_attempts } = found;
      // Without its key, or its history, a run could not end.
      if (await goesOn(run)) {
        if (clock.now() < patienceEnds) throw new Error('the run of the order has not ended yet');
        await terminate(run, 'the order has ended, and is erased');
      }
      await deleteHistories(order_id, run, child_attempts);
      await carrier.forget(order_id);
      return erasure.erase(order_id, actor);
    });
  };
}
