/**
 * The calls that the API makes to Temporal; grpc.ts and http.ts implement them. Every call settles within its timeout. When Temporal
 * fails, the call rejects with an OrderError: BUSY when Temporal limits the rate, else UNAVAILABLE. Any other error is a bug.
 */
import type { Actor } from '@trellis/contracts/actor';
import { type Command, type CommandAnswer, NO_CHANGE } from '@trellis/contracts/commands';
import { ERRORS, type ErrorCode, type ErrorDetailsByCode, OrderError } from '@trellis/contracts/error';
import type { OrderInput } from '@trellis/contracts/order';
import type { WorkflowStatus } from '@trellis/contracts/order-status';

export interface TemporalPort {
  /**
   * Starts the order's one run; undefined when the order has been started before, whether that run is running or completed.
   * With `afterDeadRun` a run that was ended from outside does not count.
   */
  start(order: OrderInput, requestHash: string, afterDeadRun?: boolean): Promise<{ run_id: string } | undefined>;
  /** The order's run; undefined when there is none. */
  find(orderId: string): Promise<FoundRun | undefined>;
  /** Sends a command as an update under the id `id` and waits up to `timeoutMs` milliseconds for its result. */
  update(orderId: string, command: Command, args: unknown[], id: string, timeoutMs: number): Promise<UpdateAnswer>;
  /** Sends a command as a signal, which Temporal keeps until a worker polls. False when the order has no running run. */
  signal(orderId: string, command: Command, args: unknown[]): Promise<boolean>;
  /** Queries the workflow's status; undefined when Temporal has no answer within `timeoutMs` milliseconds or fails. */
  query(orderId: string, timeoutMs: number): Promise<WorkflowStatus | undefined>;
  /** Starts the workflow that erases an ended order, unless it is running. */
  erase(orderId: string, erasedBy: Actor): Promise<void>;
  /** Resolves when Temporal answers and has the namespace; rejects when it has not answered within `timeoutMs` milliseconds. */
  ping(timeoutMs: number): Promise<void>;
}

export interface FoundRun {
  /** The first run's id, also once that run was continued as new. */
  run_id: string;
  /** ISO 8601. */
  started_at: string;
  /** The hash of the request that started it; undefined when another caller did. */
  request_hash: string | undefined;
  /** The run was ended from outside. */
  dead: boolean;
}

/** The statuses, in the words of both adapters, of a run that was ended from outside. */
export const isDead = (status: string | null | undefined): boolean =>
  /(TERMINATED|TIMED_OUT|FAILED|CANCELL?ED)$/.test(status ?? '');

export type UpdateAnswer =
  | { outcome: 'decided'; answer: CommandAnswer }
  | { outcome: 'refused'; code: ErrorCode; message: string; details: ErrorDetailsByCode[ErrorCode] }
  /** Recorded in the history, but not decided in time. */
  | { outcome: 'accepted' }
  /** No worker has accepted it in time, or Temporal takes no further update of this run. Whether it will still be delivered is unknown. */
  | { outcome: 'not_accepted' }
  /** Its run ended before it was decided: was ended from outside, or was continued as new by a run that will decide it. */
  | { outcome: 'interrupted' }
  /** The order has no running run: it was never started, or its run has completed or was ended from outside. */
  | { outcome: 'no_open_run' };

/**
 * gRPC codes, which both adapters meet: RESOURCE_EXHAUSTED for a run with ten updates in flight, FAILED_PRECONDITION for one
 * that has had two thousand.
 */
export const TAKES_NO_UPDATE: readonly unknown[] = [8, 9];

/** Timeout of the calls that take none from the caller, in milliseconds. */
export const CALL_TIMEOUT_MS = 3_000;

/**
 * The outcome of an update that failed. `type` is the failure's type: an error code of ours, NO_CHANGE, or Temporal's own for a
 * run that ended before it could decide. Throws INTERNAL for any other type.
 */
export function refusalOf(type: string | null | undefined, message: string, details: unknown): UpdateAnswer {
  if (type === 'AcceptedUpdateCompletedWorkflow') return { outcome: 'interrupted' };
  // Without its details it is encrypted, and this API has no key for it.
  if (type === NO_CHANGE)
    return details ? { outcome: 'decided', answer: details as CommandAnswer } : { outcome: 'accepted' };
  if (!type || !(type in ERRORS))
    throw new OrderError('INTERNAL', 'the workflow failed to decide the command', {}, { cause: new Error(message) });
  const code = type as ErrorCode;
  return { outcome: 'refused', code, message, details: (details ?? {}) as ErrorDetailsByCode[ErrorCode] };
}

/** gRPC codes: RESOURCE_EXHAUSTED; and INVALID_ARGUMENT, NOT_FOUND (the namespace), PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED. */
const BUSY = 8;
const REFUSED: unknown[] = [3, 5, 7, 12, 16];

/** The error for a call that failed in Temporal, with its gRPC code, or in the connection to it. */
export function unavailable(cause: unknown, code?: unknown): OrderError {
  if (code === BUSY) return new OrderError('BUSY', 'too many calls at once', { retry_after: 1 }, { cause });
  const detail = REFUSED.includes(code) ? 'Temporal refuses the call' : 'Temporal does not answer';
  return new OrderError('UNAVAILABLE', detail, { retry_after: 1 }, { cause });
}

/** The result of a call, or undefined when it failed with UNAVAILABLE or BUSY, for callers that have another source. A bug still rejects. */
export async function undefinedIfUnavailable<T>(calling: Promise<T>): Promise<T | undefined> {
  try {
    return await calling;
  } catch (error) {
    if (error instanceof OrderError && (error.code === 'UNAVAILABLE' || error.code === 'BUSY')) return undefined;
    throw error;
  }
}
