/** The database over MySQL's own protocol. */
import type { MySql2Database } from 'drizzle-orm/mysql2';
import { drizzle } from 'drizzle-orm/mysql2';
import type { Pool, PoolConnection } from 'mysql2/promise';
import { createPool } from 'mysql2/promise';
import { ANSWER_WITHIN_MS, type Database, retrying, type Session, within } from './database.ts';

const CONNECTIONS = 20;
/** A wait for a lock ends in the server too, or every call we cut would leave a session behind there. */
export const SESSION_SETUP = "SET time_zone = '+00:00', innodb_lock_wait_timeout = 2";

/** Opens the database of a `mysql://` URL. Nothing is connected until the first query. */
export function openMySql(url: string): Database {
  const pool = createPool({
    uri: url,
    connectionLimit: CONNECTIONS,
    connectTimeout: ANSWER_WITHIN_MS,
    timezone: 'Z',
  });
  pool.on('connection', (connection) => connection.query(SESSION_SETUP));
  return {
    run: (work, limit = ANSWER_WITHIN_MS) =>
      retrying(() => onConnection(pool, (session) => work(session as unknown as Session), limit), isLost),
    transaction: (work) =>
      retrying(() => onConnection(pool, (session) => transact(session, work), ANSWER_WITHIN_MS), isLost),
    close: () => pool.end(),
  };
}

/** Drizzle's own transaction answers a lost connection with the failure of its ROLLBACK, which hides what happened. */
async function transact<T>(session: MySql2Database, work: (session: Session) => Promise<T>): Promise<T> {
  await session.execute('begin');
  try {
    const result = await work(session as unknown as Session);
    await session.execute('commit');
    return result;
  } catch (error) {
    // Fails only on a lost connection, with which the transaction ended.
    await session.execute('rollback').catch(() => undefined);
    throw error;
  }
}

/** The driver has no deadline of its own, and a frozen server would hold the connection, and those who wait for it, for ever. */
async function onConnection<T>(pool: Pool, work: (session: MySql2Database) => Promise<T>, limit: number): Promise<T> {
  let connection: PoolConnection | undefined;
  let givenUp = false;
  const working = async () => {
    connection = await pool.getConnection();
    if (givenUp) {
      connection.release();
      throw new Error('nobody waits for the work any more');
    }
    return work(drizzle({ client: connection }));
  };
  try {
    return await within(limit, working(), () => {
      givenUp = true;
      connection?.destroy();
    });
  } finally {
    if (!givenUp) connection?.release();
  }
}

const LOST_CONNECTION = new Set(['PROTOCOL_CONNECTION_LOST', 'ECONNRESET', 'EPIPE']);
/** The driver's only word, without a code, on a connection that was lost between two statements. */
const CLOSED = 'connection is in closed state';

function isLost(error: Error): boolean {
  return error.message.endsWith(CLOSED) || LOST_CONNECTION.has((error as NodeJS.ErrnoException).code ?? '');
}
