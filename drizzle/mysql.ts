/** The database over MySQL's own protocol. */
import { sql } from 'drizzle-orm';
import type { MySql2Database } from 'drizzle-orm/mysql2';
import { drizzle } from 'drizzle-orm/mysql2';
import type { Pool, PoolConnection } from 'mysql2/promise';
import { createPool } from 'mysql2/promise';
import { ANSWER_TIMEOUT_MS, type Database, retrying, type Session, withTimeout } from './database.ts';

const CONNECTIONS = 20;
/** Lock waits time out on the server too; otherwise each abandoned query keeps waiting for its lock there. */
export const SESSION_SETUP = "SET time_zone = '+00:00', innodb_lock_wait_timeout = 2";

/** Opens the database of a `mysql://` URL. Nothing is connected until the first query. */
export function openMySql(url: string): Database {
  const pool = createPool({
    uri: url,
    connectionLimit: CONNECTIONS,
    connectTimeout: ANSWER_TIMEOUT_MS,
    timezone: 'Z',
  });
  pool.on('connection', (connection) => connection.query(SESSION_SETUP));
  return {
    run: (work, timeoutMs = ANSWER_TIMEOUT_MS) =>
      retrying(() => onConnection(pool, (session) => work(session as unknown as Session), timeoutMs)),
    transaction: (work) => retrying(() => onConnection(pool, (session) => transact(session, work), ANSWER_TIMEOUT_MS)),
    ping: (timeoutMs = ANSWER_TIMEOUT_MS) =>
      retrying(async () => void (await onConnection(pool, (session) => session.execute(sql`SELECT 1`), timeoutMs))),
    close: () => pool.end(),
  };
}

/** Drizzle's own transaction reports a lost connection as a failed ROLLBACK, which hides the first error. */
async function transact<T>(session: MySql2Database, work: (session: Session) => Promise<T>): Promise<T> {
  await session.execute('begin');
  try {
    const result = await work(session as unknown as Session);
    await session.execute('commit');
    return result;
  } catch (error) {
    // The rollback fails only when the connection is lost, and then the server has ended the transaction.
    await session.execute('rollback').catch(() => undefined);
    throw error;
  }
}

/** mysql2 has no query timeout: a frozen server would block the connection, and every call that waits for one, for ever. */
async function onConnection<T>(
  pool: Pool,
  work: (session: MySql2Database) => Promise<T>,
  timeoutMs: number,
): Promise<T> {
  let connection: PoolConnection | undefined;
  let givenUp = false;
  const working = async () => {
    connection = await pool.getConnection();
    if (givenUp) {
      connection.release();
      throw new Error('the work was abandoned before it had a connection');
    }
    return work(drizzle({ client: connection }));
  };
  try {
    return await withTimeout(timeoutMs, working(), () => {
      givenUp = true;
      connection?.destroy();
    });
  } finally {
    if (!givenUp) connection?.release();
  }
}
