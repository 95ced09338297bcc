/** Maps every thrown value to an OrderError. Unknown errors become INTERNAL without details. */
import { ERRORS, OrderError, type Problem } from '@trellis/contracts/error';
import { withoutShop } from '@trellis/contracts/id';
import { problemsOf } from '@trellis/contracts/order';
import { DatabaseError } from '@trellis/drizzle/database';
import { TRPCError } from '@trpc/server';
import type { BaseIssue } from 'valibot';

/** The error as callers see it. What was thrown is kept in `cause`, for the log. */
export function toOrderError(error: unknown): OrderError {
  if (error instanceof OrderError) return error;
  if (error instanceof TRPCError) {
    if (error.cause instanceof OrderError) return error.cause;
    const issues = issuesOf(error.cause);
    if (error.code === 'BAD_REQUEST' && issues) return invalid(problemsOf(issues));
    if (error.code === 'PARSE_ERROR') return new OrderError('INVALID_JSON', 'the body is not JSON');
    if (error.code === 'NOT_FOUND' || error.code === 'METHOD_NOT_SUPPORTED')
      return new OrderError('NOT_FOUND', 'no such procedure');
    if (error.code === 'BAD_REQUEST' || error.code === 'UNSUPPORTED_MEDIA_TYPE')
      return invalid([{ path: '', message: error.message }]);
  }
  // tRPC wraps what a procedure threw.
  const cause = error instanceof TRPCError ? (error.cause ?? error) : error;
  return new OrderError('INTERNAL', 'an internal error occurred', {}, { cause });
}

/** What an INVALID error says; its message names the first problem. */
export function invalidInput(errors: Problem[]) {
  const [first] = errors;
  const message = first ? `${first.path || 'body'}: ${first.message}` : 'the input is not valid';
  return { code: 'INVALID' as const, message, details: { errors } };
}

export function invalid(errors: Problem[]): OrderError<'INVALID'> {
  const { code, message, details } = invalidInput(errors);
  return new OrderError(code, message, details);
}

/** A NOT_FOUND error for an order; it names no shop. */
export function noSuchOrder(orderId: string): OrderError<'NOT_FOUND'> {
  return new OrderError('NOT_FOUND', `there is no order ${withoutShop(orderId)}`);
}

/** Wraps an OrderError so that tRPC answers with the error's own code. */
export function toTRPCError(error: OrderError): TRPCError {
  return new TRPCError({ code: ERRORS[error.code].trpc, message: error.message, cause: error });
}

/** Runs a read of the database. Throws UNAVAILABLE when the database failed and a repetition may help; any other error unchanged, which becomes INTERNAL. */
export async function fromSql<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw error instanceof DatabaseError ? databaseFailed(error) : error;
  }
}

/** The error for a call of the database that failed: UNAVAILABLE, or the error itself when no repetition helps. */
export function databaseFailed(cause: DatabaseError): Error {
  return cause.permanent ? cause : new OrderError('UNAVAILABLE', cause.message, { retry_after: 1 }, { cause });
}

/** The result of a database call, or `fallback` when the database failed; any other error is a bug and is thrown unchanged. */
export async function fallbackOnDatabaseError<T, F>(calling: Promise<T>, fallback: F): Promise<T | F> {
  const result = await calling.catch(databaseErrorAsValue);
  return result instanceof DatabaseError ? fallback : result;
}

/** For `catch`: the error of a failed database; any other error is a bug and is thrown unchanged. */
export function databaseErrorAsValue(error: unknown): DatabaseError {
  if (error instanceof DatabaseError) return error;
  throw error;
}

function issuesOf(cause: unknown): BaseIssue<unknown>[] | undefined {
  const issues = (cause as { issues?: BaseIssue<unknown>[] } | undefined)?.issues;
  return Array.isArray(issues) ? issues : undefined;
}
