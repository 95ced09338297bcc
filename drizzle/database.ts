/** What the stores need from a database. Two adapters: mysql.ts over TCP, planetscale.ts over HTTP. */
import { DrizzleQueryError, sql } from 'drizzle-orm';
import type { MySqlDatabase, MySqlQueryResultHKT, PreparedQueryHKTBase } from 'drizzle-orm/mysql-core';
import { type Failure, type FailureKind, failureOf } from './failure.ts';

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
  /**
   * Runs `work` in one transaction; after a deadlock or a lost connection all of it runs again, so it must be repeatable. `timeoutMs` as
   * for `run`, for all of it.
   */
  transaction<T>(work: (session: Session) => Promise<T>, timeoutMs?: number): Promise<T>;
  /** Resolves when the database answers within `timeoutMs` milliseconds; else throws a DatabaseError. Costs one round trip. */
  ping(timeoutMs?: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * The database failed. The message may be shown to callers. It has no cause: the driver's error holds the statement and its
 * values, which must reach no log, no history and no row.
 */
export class DatabaseError extends Error implements Failure {
  override readonly name = 'DatabaseError';
  readonly kind: FailureKind;
  /** The server's or the network's own words without any value, for logs and operators. */
  readonly reason: string;
  /** Whether the same call fails again until a person changes the schema, a grant, the data or the configuration. */
  readonly permanent: boolean;
  readonly errno?: number;

  constructor(message: string, { kind = 'other', reason = message, errno }: Partial<Failure> = {}) {
    super(message);
    this.kind = kind;
    this.reason = reason;
    this.permanent = kind === 'permanent';
    if (errno !== undefined) this.errno = errno;
  }
}

/** The `ping` of a database with this `run`. */
export const pingBy =
  (run: Database['run']): Database['ping'] =>
  async (timeoutMs) =>
    void (await run((session) => session.execute(sql`SELECT 1`), timeoutMs));

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

/** How often each kind of failure is retried. `lost` is retried least: the server may be down, and the caller should learn it soon. */
const RETRIES: Partial<Record<FailureKind, number>> = { conflict: 30, busy: 30, lost: 6 };
const MIN_PAUSE_MS = 5;
const MAX_PAUSE_MS = 100;

/**
 * Retries `work` with backoff while the failure may be transient. All tries together take at most `timeoutMs` milliseconds: `work` gets
 * the time left. Throws a DatabaseError when the database failed, any other error as it is.
 */
export async function retrying<T>(timeoutMs: number, work: (timeoutMs: number) => Promise<T>): Promise<T> {
  const end = performance.now() + timeoutMs;
  let timeLeft = timeoutMs;
  let earlier: DatabaseError | undefined;
  for (let failures = 1; ; failures += 1) {
    try {
      return await work(timeLeft);
    } catch (thrown) {
      const error = databaseErrorOf(thrown);
      if (!error) throw thrown;
      // A retry has less time than a server may take, so its silence says nothing.
      if (earlier && error.kind === 'silent') throw earlier;
      earlier = error;
      const pause = Math.min(MIN_PAUSE_MS * 2 ** (failures - 1), MAX_PAUSE_MS) * (0.5 + Math.random() / 2);
      timeLeft = Math.floor(end - performance.now() - pause);
      if (timeLeft < MAX_PAUSE_MS || failures > (RETRIES[error.kind] ?? 0)) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** The failure as a DatabaseError; undefined when it was a store's own code that failed, which is a bug. */
export function databaseErrorOf(error: unknown): DatabaseError | undefined {
  if (error instanceof DatabaseError) return error;
  const failure = failureOf(error);
  if (failure) return new DatabaseError(failure.message, failure);
  // Its message holds the statement and its values.
  return error instanceof DrizzleQueryError
    ? new DatabaseError('the statement could not be run', { reason: `${error.cause?.name}` })
    : undefined;
}

/** Whether the database is reachable but overloaded: it did not answer in time, has too many connections, or did not grant a lock. */
export function isOverloaded(error: unknown): boolean {
  return error instanceof DatabaseError && (error.kind === 'busy' || error.kind === 'silent');
}

const NO_SUCH_TABLE = 1146;

export function isMissingTable(error: unknown): boolean {
  return error instanceof DatabaseError && error.errno === NO_SUCH_TABLE;
}

/**
 * One line for the operator of a program that failed with `error`: the variable that holds the database's URL, its host
 * and port, never its password, and the reason. Undefined when it was not the database that failed.
 */
export function failureLine(variable: string, url: string, error: unknown): string | undefined {
  const { protocol, hostname, port } = URL.parse(url) ?? {};
  const server = hostname ? `${hostname}:${port || DEFAULT_PORTS[protocol ?? '']}` : 'not a valid URL';
  const reason = databaseErrorOf(error)?.reason;
  return reason === undefined ? undefined : `${variable} (${server}): ${reason}`;
}

const DEFAULT_PORTS: Record<string, string> = { 'mysql:': '3306', 'http:': '80', 'https:': '443' };
