/** What the stores ask of a database, whatever carries their statements there: mysql.ts over TCP, planetscale.ts over HTTP. */
import { DrizzleQueryError } from 'drizzle-orm';
import type { MySqlDatabase, MySqlQueryResultHKT, PreparedQueryHKTBase } from 'drizzle-orm/mysql-core';
import pRetry from 'p-retry';

/** What a store runs its statements on, inside or outside of a transaction. */
export type Session = Pick<
  MySqlDatabase<MySqlQueryResultHKT, PreparedQueryHKTBase>,
  'select' | 'insert' | 'update' | 'execute'
>;

export interface Database {
  /** Runs statements one by one, outside of a transaction. Fails when they take longer than `within` milliseconds, 2 s if absent. */
  run<T>(work: (session: Session) => Promise<T>, within?: number): Promise<T>;
  /** Runs `work` in one transaction and runs the whole of it again after a deadlock or a lost connection; so it must be repeatable. */
  transaction<T>(work: (session: Session) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** The database failed. Its own words tell of statements and hosts, so they are only in `cause`, which callers aren't shown. */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
}

/** How many rows a write has changed, which each driver says in its own way. */
export function rowsChanged(answer: unknown): number {
  const [header] = Array.isArray(answer) ? (answer as [{ affectedRows: number }]) : [];
  return header?.affectedRows ?? (answer as { rowsAffected: number }).rowsAffected;
}

/** A server that doesn't answer within this is treated as lost: the work is cut off, and repeated or failed. */
export const ANSWER_WITHIN_MS = 2_000;

/** Fails, with the code NO_ANSWER, what isn't done within so many milliseconds, and has it given up. */
export async function within<T>(milliseconds: number, work: Promise<T>, giveUp: () => void): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      giveUp();
      const message = `the database did not answer within ${milliseconds} ms`;
      reject(Object.assign(new Error(message), { code: 'NO_ANSWER' }));
    }, milliseconds);
  });
  try {
    return await Promise.race([work, silence]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Runs work again, a little later each time, as long as it fails for a reason that passes. Fails with a DatabaseError when
 * the database or the way to it is what failed.
 */
export async function retrying<T>(work: () => Promise<T>, passes: (error: Error) => boolean): Promise<T> {
  try {
    return await pRetry(work, {
      retries: 6,
      maxRetryTime: ANSWER_WITHIN_MS,
      minTimeout: 5,
      maxTimeout: 100,
      randomize: true,
      shouldRetry: ({ error }) => causesOf(error).some((cause) => PASSING_ERRNOS.has(errnoOf(cause)) || passes(cause)),
    });
  } catch (error) {
    throw isOfDatabase(error) ? new DatabaseError('the database does not answer', { cause: error }) : error;
  }
}

/** Deadlock, lock wait timeout, and MariaDB's "record has changed since last read". */
const PASSING_ERRNOS = new Set([1213, 1205, 1020]);

/** Over HTTP the server's number is only told in its words, which come in a body. */
function errnoOf(error: Error): number {
  const { errno, body } = error as { errno?: number; body?: { message?: string } };
  return errno ?? Number(/\(errno (\d+)\)/.exec(body?.message ?? '')?.[1]);
}

const LOCK_WAIT_TIMEOUT = 1205;

/** Whether the database is there, but has more to do than it can: it says nothing, or that a lock took too long. */
export function isOverloaded(error: unknown): boolean {
  return causesOf(error).some(
    (cause) => (cause as { code?: string }).code === 'NO_ANSWER' || errnoOf(cause) === LOCK_WAIT_TIMEOUT,
  );
}

/** What is thrown inside the stores' own work and is not one of these is a plain error of theirs. */
function isOfDatabase(error: unknown): boolean {
  return causesOf(error).some(
    (cause) => cause instanceof DrizzleQueryError || 'errno' in cause || 'body' in cause || 'code' in cause,
  );
}

function causesOf(error: unknown): Error[] {
  return error instanceof Error ? [error, ...causesOf(error.cause)] : [];
}
