import type { MySql2Database } from 'drizzle-orm/mysql2';
import { drizzle } from 'drizzle-orm/mysql2';
import type { Pool, PoolConnection } from 'mysql2/promise';
import { createPool } from 'mysql2/promise';
import pRetry from 'p-retry';

/** What a store runs its statements on: a connection, inside or outside of a transaction. */
export type Session = Pick<MySql2Database, 'select' | 'insert' | 'update' | 'execute'>;

export interface Database {
  /** Runs reads outside of a transaction. Fails when they take longer than `within` milliseconds, 2 s if absent. */
  read<T>(work: (session: Session) => Promise<T>, within?: number): Promise<T>;
  /** Runs `work` in one transaction and runs the whole of it again after a deadlock or a lost connection; so it must be repeatable. */
  transaction<T>(work: (session: Session) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** A server that doesn't answer within this is treated as lost: the connection is cut and the work repeated or failed. */
const ANSWER_WITHIN_MS = 2_000;
const CONNECTIONS = 20;
/** A wait for a lock ends in the server too, or every call we cut would leave a session behind there. */
const SESSION = "SET time_zone = '+00:00', innodb_lock_wait_timeout = 2";

/**
 * Opens the database of a `mysql://` URL. Nothing is connected until the first query.
 */
export function openDatabase(url: string): Database {
  const pool = createPool({
    uri: url,
    connectionLimit: CONNECTIONS,
    connectTimeout: ANSWER_WITHIN_MS,
    timezone: 'Z',
  });
  pool.on('connection', (connection) => connection.query(SESSION));
  return {
    read: (work, within = ANSWER_WITHIN_MS) => retrying(() => onConnection(pool, work, within)),
    transaction: (work) => retrying(() => onConnection(pool, (session) => transact(session, work), ANSWER_WITHIN_MS)),
    close: () => pool.end(),
  };
}

/** Drizzle's own transaction answers a lost connection with the failure of its ROLLBACK, which hides what happened. */
async function transact<T>(session: MySql2Database, work: (session: Session) => Promise<T>): Promise<T> {
  await session.execute('begin');
  try {
    const result = await work(session);
    await session.execute('commit');
    return result;
  } catch (error) {
    // Fails only on a lost connection, with which the transaction ended.
    await session.execute('rollback').catch(() => undefined);
    throw error;
  }
}

/** The driver has no deadline of its own, and a frozen server would hold the connection, and those who wait for it, for ever. */
async function onConnection<T>(pool: Pool, work: (session: MySql2Database) => Promise<T>, within: number): Promise<T> {
  const connecting = pool.getConnection();
  let connection: PoolConnection | undefined;
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      if (connection) connection.destroy();
      else connecting.then((late) => late.release()).catch(() => undefined);
      reject(noAnswer(within));
    }, within);
  });
  try {
    connection = await Promise.race([connecting, silence]);
    return await Promise.race([work(drizzle({ client: connection })), silence]);
  } finally {
    clearTimeout(timer);
    connection?.release();
  }
}

const noAnswer = (within: number) =>
  Object.assign(new Error(`the database did not answer within ${within} ms`), { code: 'NO_ANSWER' });

function retrying<T>(work: () => Promise<T>): Promise<T> {
  return pRetry(work, {
    retries: 6,
    maxRetryTime: ANSWER_WITHIN_MS,
    minTimeout: 5,
    maxTimeout: 100,
    randomize: true,
    shouldRetry: ({ error }) => isPassing(error),
  });
}

/** Deadlock, lock wait timeout, and MariaDB's "record has changed since last read". */
const PASSING_ERRNOS = new Set([1213, 1205, 1020]);
const LOST_CONNECTION = new Set(['PROTOCOL_CONNECTION_LOST', 'ECONNRESET', 'EPIPE']);
/** The driver's only word, without a code, on a connection that was lost between two statements. */
const CLOSED = 'connection is in closed state';

function isPassing(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { errno, code } = cause as NodeJS.ErrnoException;
    if (cause.message.endsWith(CLOSED)) return true;
    if ((errno !== undefined && PASSING_ERRNOS.has(errno)) || (code !== undefined && LOST_CONNECTION.has(code)))
      return true;
  }
  return false;
}
