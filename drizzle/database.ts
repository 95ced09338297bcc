/** What the stores need from a database. Two adapters: mysql.ts over TCP, planetscale.ts over HTTP. */
import { DrizzleQueryError } from 'drizzle-orm';
import type { MySqlDatabase, MySqlQueryResultHKT, PreparedQueryHKTBase } from 'drizzle-orm/mysql-core';
import pRetry from 'p-retry';

/** What a store runs its statements on, inside or outside of a transaction. */
export type Session = Pick<
  MySqlDatabase<MySqlQueryResultHKT, PreparedQueryHKTBase>,
  'select' | 'insert' | 'update' | 'delete' | 'execute'
>;

export interface Database {
  /**
   * Runs statements one by one, outside of a transaction. Throws a DatabaseError when they take longer than `timeoutMs`
   * milliseconds, by default ANSWER_TIMEOUT_MS.
   */
  run<T>(work: (session: Session) => Promise<T>, timeoutMs?: number): Promise<T>;
  /** Runs `work` in one transaction; after a deadlock or a lost connection all of it runs again, so it must be repeatable. */
  transaction<T>(work: (session: Session) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** The database failed. The message may be shown to callers; that of the driver's error in `cause` may contain statements and hosts. */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
}

/** How many rows a write has changed. mysql2 and PlanetScale's driver return it in different places. */
export function rowsChanged(result: unknown): number {
  const [header] = Array.isArray(result) ? (result as [{ affectedRows: number }]) : [];
  return header?.affectedRows ?? (result as { rowsAffected: number }).rowsAffected;
}

/** A server that does not answer within this time counts as lost: the work is abandoned, then retried or reported as failed. */
export const ANSWER_TIMEOUT_MS = 2_000;

/** Settles as `work` does; after `timeoutMs` milliseconds calls `giveUp` to cancel the work and rejects with the code NO_ANSWER. */
export async function withTimeout<T>(timeoutMs: number, work: Promise<T>, giveUp: () => void): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      giveUp();
      const message = `the database did not answer within ${timeoutMs} ms`;
      reject(Object.assign(new Error(message), { code: 'NO_ANSWER' }));
    }, timeoutMs);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Retries `work` with backoff while it fails with a transient error: one of TRANSIENT_ERRNOS, or one that `isTransient`
 * accepts. Throws a DatabaseError when the database or the connection to it failed, any other error as it is.
 */
export async function retrying<T>(work: () => Promise<T>, isTransient: (error: Error) => boolean): Promise<T> {
  try {
    return await pRetry(work, {
      retries: 6,
      maxRetryTime: ANSWER_TIMEOUT_MS,
      minTimeout: 5,
      maxTimeout: 100,
      randomize: true,
      shouldRetry: ({ error }) =>
        causesOf(error).some((cause) => TRANSIENT_ERRNOS.has(errnoOf(cause)) || isTransient(cause)),
    });
  } catch (error) {
    throw isDatabaseFailure(error) ? new DatabaseError('the database does not answer', { cause: error }) : error;
  }
}

const LOCK_WAIT_TIMEOUT = 1205;
const NO_SUCH_TABLE = 1146;
/** Deadlock, lock wait timeout, and MariaDB's "record has changed since last read". */
const TRANSIENT_ERRNOS = new Set([1213, LOCK_WAIT_TIMEOUT, 1020]);

/** PlanetScale's driver gives the errno only inside `body.message`. */
function errnoOf(error: Error): number {
  const { errno, body } = error as { errno?: number; body?: { message?: string } };
  return errno ?? Number(/\(errno (\d+)\)/.exec(body?.message ?? '')?.[1]);
}

/** Whether the database is reachable but overloaded: it did not answer in time, or a lock was not granted in time. */
export function isOverloaded(error: unknown): boolean {
  return causesOf(error).some(
    (cause) => (cause as { code?: string }).code === 'NO_ANSWER' || errnoOf(cause) === LOCK_WAIT_TIMEOUT,
  );
}

export function isMissingTable(error: unknown): boolean {
  return causesOf(error).some((cause) => errnoOf(cause) === NO_SUCH_TABLE);
}

/** Any other error was thrown by a store's own code: a bug, not a failure of the database. */
function isDatabaseFailure(error: unknown): boolean {
  return causesOf(error).some(
    (cause) =>
      cause instanceof DatabaseError ||
      cause instanceof DrizzleQueryError ||
      'errno' in cause ||
      'body' in cause ||
      'code' in cause,
  );
}

/**
 * One line for the operator of a program that failed with `error`: the variable that holds the database's URL, its host
 * and port, never its password, and the reason. Undefined when it was not the database that failed.
 */
export function failureLine(variable: string, url: string, error: unknown): string | undefined {
  if (!isDatabaseFailure(error)) return undefined;
  const { protocol, hostname, port } = URL.parse(url) ?? {};
  const server = hostname ? `${hostname}:${port || DEFAULT_PORTS[protocol ?? '']}` : 'not a valid URL';
  const { message, code } = causesOf(error).at(-1) as NodeJS.ErrnoException;
  return `${variable} (${server}): ${(message || code || 'unknown error').replace(/\s+/g, ' ')}`;
}

const DEFAULT_PORTS: Record<string, string> = { 'mysql:': '3306', 'http:': '80', 'https:': '443' };

function causesOf(error: unknown): Error[] {
  return error instanceof Error ? [error, ...causesOf(error.cause)] : [];
}
