/** How an order leaves its way to being shipped: by an exception that carries its end. */
import { condition } from '@temporalio/workflow';
import type { Ending, FailureReason } from '@trellis/contracts/lifecycle';
import { DeadlineExceeded } from './run-activity.ts';
import type { RunningOrder } from './running-order.ts';

/** The order ends here, without shipping. */
export class OrderEnds extends Error {
  override readonly name = 'OrderEnds';
  readonly ending: Ending;

  constructor(ending: Ending) {
    super(ending.state);
    this.ending = ending;
  }
}

export const failed = (reason: FailureReason, detail?: string): OrderEnds =>
  new OrderEnds({ state: 'failed', reason, ...(detail === undefined ? {} : { detail }) });

const canceled = (reason: string): OrderEnds => new OrderEnds({ state: 'canceled', reason });

/** Anything else is a bug: thrown on, it stops the workflow task until the code is mended, and the order with it. */
export function endingFor(error: unknown): Ending {
  if (error instanceof OrderEnds) return error.ending;
  if (error instanceof DeadlineExceeded) return { state: 'failed', reason: 'DEADLINE' };
  throw error;
}

export function stopIfCanceled(running: RunningOrder): void {
  if (running.cancel) throw canceled(running.cancel.reason);
}

/** A cancel doesn't wait for work under way: closed keys make it come to nothing, however late it wakes. */
export function unlessCanceled<T>(running: RunningOrder, work: Promise<T>): Promise<T> {
  const cancel = condition(() => running.cancel !== null).then(() => {
    throw canceled(running.cancel?.reason ?? '');
  });
  return Promise.race([work, cancel]);
}
