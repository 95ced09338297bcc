import type { MySql2Database, MySqlRawQueryResult } from 'drizzle-orm/mysql2';
import { drizzle } from 'drizzle-orm/mysql2';
import type { Pool, PoolConnection } from 'mysql2/promise';
import { createPool } from 'mysql2/promise';
import pRetry from 'p-retry';

export type { MySqlRawQueryResult };

/** What a store runs its statements on: a connection, inside or outside of a transaction. */
export type Session = Pick<MySql2Database, 'select' | 'insert' | 'update' | 'delete' | 'execute'>;

export interface Database {
  /** Runs reads outside of a transaction. */
  read<T>(work: (session: Session) => Promise<T>): Promise<T>;
  /** Runs `work` in one transaction and runs the whole of it again after a deadlock or a lost connection; so it must be repeatable. */
  transaction<T>(work: (session: Session) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** A server that doesn't answer within this is treated as lost: the connection is cut and the work repeated or failed. */
const ANSWER_WITHIN_MS = 2_000;
const CONNECTIONS = 20;

/**
 * Opens the database of a `mysql://` URL. Nothing is connected until the first query.
 * Throws on a URL of another form.
 */
export function openDatabase(url: string): Database {
  if (!url.startsWith('mysql://')) throw new Error('DATABASE_URL must start with mysql://');
  const pool = createPool({
    uri: url,
    connectionLimit: CONNECTIONS,
    connectTimeout: ANSWER_WITHIN_MS,
    timezone: 'Z',
  });
  pool.on('connection', (connection) => connection.query("SET time_zone = '+00:00'"));
  return {
    read: (work) => retrying(() => onConnection(pool, work)),
    transaction: (work) => retrying(() => onConnection(pool, (session) => session.transaction(work))),
    close: () => pool.end(),
  };
}

/** The driver has no deadline of its own, and a frozen server would hold the connection for ever. */
async function onConnection<T>(pool: Pool, work: (session: MySql2Database) => Promise<T>): Promise<T> {
  const connection = await pool.getConnection();
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(lostConnection(connection)), ANSWER_WITHIN_MS);
  });
  try {
    return await Promise.race([work(drizzle({ client: connection })), silence]);
  } finally {
    clearTimeout(timer);
    connection.release();
  }
}

function lostConnection(connection: PoolConnection): Error {
  connection.destroy();
  return Object.assign(new Error(`the database did not answer within ${ANSWER_WITHIN_MS} ms`), { code: 'NO_ANSWER' });
}

function retrying<T>(work: () => Promise<T>): Promise<T> {
  return pRetry(work, {
    retries: 6,
    minTimeout: 5,
    maxTimeout: 100,
    randomize: true,
    shouldRetry: ({ error }) => isPassing(error),
  });
}

/** Deadlock, lock wait timeout, and MariaDB's "record has changed since last read". */
const PASSING_ERRNOS = new Set([1213, 1205, 1020]);
const LOST_CONNECTION = new Set(['PROTOCOL_CONNECTION_LOST', 'ECONNRESET', 'EPIPE']);

function isPassing(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { errno, code } = cause as NodeJS.ErrnoException;
    if ((errno !== undefined && PASSING_ERRNOS.has(errno)) || (code !== undefined && LOST_CONNECTION.has(code)))
      return true;
  }
  return false;
}
