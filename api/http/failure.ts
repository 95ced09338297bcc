/** The log entry of an INTERNAL or UNAVAILABLE answer: one line, without statements, parameters and bodies. */
import type { ErrorCode, OrderError } from '@trellis/contracts/error';
import { RECORDED_ID_PATTERN } from '@trellis/contracts/id';
import { DatabaseError } from '@trellis/drizzle/database';

export interface Failure {
  /** As in the access log. */
  request_id?: string;
  method: string;
  path: string;
  code: ErrorCode;
  order_id?: string;
  /** What failed, in the words of the database, of Temporal or of the network. */
  reason: string;
  /** Of a bug: where it was thrown. */
  stack?: string;
}

const MAX_LENGTH = 300;

/** `orderId`: as the caller sent it. */
export function failureOf(
  { method, path }: { method: string; path: string },
  error: OrderError,
  orderId: unknown,
  requestId: string | undefined,
): Failure {
  const cause = causeOf(error);
  return {
    ...(requestId !== undefined && { request_id: requestId }),
    method,
    path: path.slice(0, MAX_LENGTH),
    code: error.code,
    ...(typeof orderId === 'string' && RECORDED_ID_PATTERN.test(orderId) && { order_id: orderId }),
    reason: reasonOf(error),
    ...(error.code === 'INTERNAL' && !(cause instanceof DatabaseError) && cause.stack && { stack: cause.stack }),
  };
}

/** The message of an error's innermost cause, in one line. */
export function reasonOf(error: Error): string {
  const cause = causeOf(error);
  return (cause instanceof DatabaseError ? cause.reason : `${cause}`).replace(/\s+/g, ' ').slice(0, MAX_LENGTH);
}

function causeOf(error: Error): Error {
  return error.cause instanceof Error ? causeOf(error.cause) : error;
}
