/** The exceptions that end an order's steps before it ships, and the ending that each leads to. */
import { condition } from '@temporalio/workflow';
import type { Ending, FailureReason } from '@trellis/contracts/states-and-steps';
import { DeadlineExceeded } from './run-activity.ts';
import type { RunningOrder } from './running-order.ts';

/** Thrown to end the order without shipping it. */
export class EndedUnshipped extends Error {
  override readonly name = 'EndedUnshipped';
  readonly ending: Ending;

  constructor(ending: Ending) {
    super(ending.state);
    this.ending = ending;
  }
}

export const failed = (reason: FailureReason, detail?: string): EndedUnshipped =>
  new EndedUnshipped({ state: 'failed', reason, ...(detail === undefined ? {} : { detail }) });

const canceled = (reason: string): EndedUnshipped => new EndedUnshipped({ state: 'canceled', reason });

/** The ending that a step's exception means. Any other exception is a bug: it fails the workflow task until the code is fixed. */
export function endingOf(error: unknown): Ending {
  if (error instanceof EndedUnshipped) return error.ending;
  if (error instanceof DeadlineExceeded) return { state: 'failed', reason: 'DEADLINE' };
  throw error;
}

export function stopIfCanceled(order: RunningOrder): void {
  if (order.cancel) throw canceled(order.cancel.reason);
}

/** Abandons `work` when the order is canceled. Safe: both keys are closed before the refund, so a late call is refused. */
export function orCanceled<T>(order: RunningOrder, work: Promise<T>): Promise<T> {
  const cancel = condition(() => order.cancel !== null).then(() => {
    throw canceled(order.cancel?.reason ?? '');
  });
  return Promise.race([work, cancel]);
}
