/** What the API asks of Temporal. Every call answers in time or fails with `UNAVAILABLE`. */
import type { Command, CommandAnswer } from '@trellis/contracts/command';
import { ERRORS, type ErrorCode, type ErrorDetails, OrderError } from '@trellis/contracts/error';
import type { OrderInput } from '@trellis/contracts/order';
import type { WorkflowStatus } from '@trellis/contracts/status';

export interface TemporalPort {
  /** Starts the order's one run; undefined when it has been started before, whether it has closed or not. */
  start(order: OrderInput, requestHash: string): Promise<{ run_id: string } | undefined>;
  /** The order's run, with the hash of the request that started it if this API did; undefined when there is none. */
  find(orderId: string): Promise<{ run_id: string; request_hash: string | undefined } | undefined>;
  /** Sends a command as an update and waits for its answer as long as `within` milliseconds. */
  update(orderId: string, command: Command, args: unknown[], id: string, within: number): Promise<UpdateAnswer>;
  /** Sends a command as a signal, which is kept until a worker comes. False when there is no open run. */
  signal(orderId: string, command: Command, args: unknown[]): Promise<boolean>;
  /** Asks the workflow itself; undefined when it doesn't answer within so many milliseconds. */
  query(orderId: string, within: number): Promise<WorkflowStatus | undefined>;
}

export type UpdateAnswer =
  | { outcome: 'decided'; answer: CommandAnswer }
  | { outcome: 'refused'; code: ErrorCode; message: string; details: ErrorDetails }
  /** In the history for good, but not decided in time. */
  | { outcome: 'accepted' }
  /** No worker has seen it. It may or may not still be delivered. */
  | { outcome: 'unseen' }
  /** There is no open run. */
  | { outcome: 'closed' };

/** How long either adapter waits for whatever the caller sets no time for. */
export const ANSWER_WITHIN_MS = 3_000;

/** The failure of an update: its type is an error code of ours, or Temporal's own word that the run was ended before it could decide. */
export function refusalOf(type: string | null | undefined, message: string, details: unknown): UpdateAnswer {
  if (type === 'AcceptedUpdateCompletedWorkflow') return { outcome: 'closed' };
  if (!type || !(type in ERRORS))
    throw new OrderError('INTERNAL', 'the order could not decide the command', {}, { cause: new Error(message) });
  return { outcome: 'refused', code: type as ErrorCode, message, details: (details ?? {}) as ErrorDetails };
}

/** What callers learn of a call that failed; `busy` when Temporal itself has too much to do. */
export function unavailable(cause: unknown, busy: boolean): OrderError {
  return busy
    ? new OrderError('BUSY', 'too many calls at once', {}, { cause })
    : new OrderError('UNAVAILABLE', 'Temporal does not answer', {}, { cause });
}
