/** The database over MySQL's own protocol. */
import { readMySqlUrl } from '@trellis/contracts/config/mysql-url';
import type { MySql2Database } from 'drizzle-orm/mysql2';
import { drizzle } from 'drizzle-orm/mysql2';
import { createPool, type Pool, type PoolConnection } from 'mysql2/promise';
import {
  ANSWER_TIMEOUT_MS,
  type Database,
  DatabaseError,
  databaseErrorOf,
  pingBy,
  retrying,
  type Session,
  withTimeout,
} from './database.ts';

const CONNECTIONS = 20;
/** An idle connection is closed after this time, sooner than routers and load balancers forget it. */
const IDLE_TIMEOUT_MS = 60_000;
/** A connection that has been idle longer is pinged before it is used. */
const TRUSTED_FOR_MS = 500;
/** Timeout of that ping. */
const PING_TIMEOUT_MS = 300;

/**
 * What the statements were written for, whatever the server's defaults: UTF-8, times in UTC, refused instead of cut values,
 * backslash as the escape character (the driver quotes with it), and lock waits that end on the server too, as otherwise each
 * abandoned statement keeps waiting there.
 */
export const SESSION_SETUP = [
  `SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci, time_zone = '+00:00', innodb_lock_wait_timeout = 2,
    sql_mode = 'ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'`,
  'SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ',
] as const;

/** The driver's options for a `mysql://` URL. The driver does not get the URL itself: its errors would print the password. */
export function connectionOptions(url: string) {
  return { ...readMySqlUrl(url), timezone: 'Z', jsonStrings: true, keepAliveInitialDelay: IDLE_TIMEOUT_MS / 2 };
}

/** Opens the database of a `mysql://` URL. Nothing is connected until the first query. Throws a ConfigError when the URL can't be used. */
export function openMySql(url: string): Database {
  const options = connectionOptions(url);
  const connectionLimit = options.connectionLimit ?? CONNECTIONS;
  const pool = createPool({
    ...options,
    connectionLimit,
    // Below the limit, or the driver keeps idle connections for ever.
    maxIdle: connectionLimit - 1,
    idleTimeout: IDLE_TIMEOUT_MS,
    connectTimeout: ANSWER_TIMEOUT_MS,
  });
  const onConnection = connectionsOf(pool, connectionLimit);
  const run: Database['run'] = (work, timeoutMs = ANSWER_TIMEOUT_MS) =>
    retrying(timeoutMs, (timeLeft) => onConnection((session) => work(session as unknown as Session), timeLeft));
  return {
    run,
    transaction: (work, timeoutMs = ANSWER_TIMEOUT_MS) =>
      retrying(timeoutMs, (timeLeft) => onConnection((session) => transact(session, work), timeLeft)),
    ping: pingBy(run),
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

/**
 * `losses`: the number of lost connections counted when this one was opened. `answeredAt`: when the server last answered on it, by
 * performance.now(). `session`: one for as long as it is open, as statements are prepared for a session.
 */
interface Known {
  losses: number;
  answeredAt: number;
  session: MySql2Database;
}

/**
 * Returns a function that runs work on a connection of the pool. A NAT gateway or a firewall can drop an idle connection without
 * closing it on either side. Therefore a connection is pinged first if it was idle, or if another one has got no answer since its last
 * answer. Once one is lost, every connection opened before is dropped when the pool hands it out: a caller waits once, not once for each.
 */
function connectionsOf(pool: Pool, connectionLimit: number) {
  /** By the driver's own connection; the pool wraps it anew each time. */
  const known = new WeakMap<object, Known>();
  let losses = 0;
  let unansweredAt = 0;
  let inUse = 0;

  function lose({ connection }: PoolConnection): void {
    if (known.get(connection)?.losses === losses) losses += 1;
  }

  /** The connection's session; undefined when no work may begin on it. */
  async function sessionOf(connection: PoolConnection): Promise<MySql2Database | undefined> {
    const its = known.get(connection.connection);
    if (!its) {
      const made = { losses, answeredAt: performance.now(), session: drizzle({ client: connection }) };
      for (const statement of SESSION_SETUP) await connection.query(statement);
      known.set(connection.connection, made);
      return made.session;
    }
    if (its.losses < losses) return undefined;
    if (its.answeredAt > Math.max(unansweredAt, performance.now() - TRUSTED_FOR_MS)) return its.session;
    if (await answersPing(connection)) return its.session;
    lose(connection);
    return undefined;
  }

  /** mysql2 has no query timeout: a frozen server would block the connection, and every call that waits for one, for ever. */
  return async function onConnection<T>(work: (session: MySql2Database) => Promise<T>, timeoutMs: number): Promise<T> {
    let connection: PoolConnection | undefined;
    let givenUp = false;
    let noneWasFree = false;
    const working = async () => {
      for (;;) {
        const taken = await pool.getConnection();
        if (givenUp) {
          taken.release();
          throw new Error('the work was abandoned before it had a connection');
        }
        if (!connection) inUse += 1;
        connection = taken;
        const session = await sessionOf(connection);
        if (session) return work(session);
        connection.destroy();
      }
    };
    try {
      return await withTimeout(timeoutMs, working(), () => {
        givenUp = true;
        noneWasFree = !connection && inUse >= connectionLimit;
        if (!noneWasFree) unansweredAt = performance.now();
        connection?.destroy();
      });
    } catch (error) {
      if (noneWasFree)
        throw new DatabaseError('all connections to the database are in use', {
          kind: 'busy',
          reason: `none of ${connectionLimit} connections became free within ${timeoutMs} ms`,
        });
      if (connection && databaseErrorOf(error)?.kind === 'lost') {
        lose(connection);
        connection.destroy();
      }
      throw error;
    } finally {
      if (connection) inUse -= 1;
      const its = connection && known.get(connection.connection);
      if (its) its.answeredAt = performance.now();
      if (!givenUp) connection?.release();
    }
  };
}

async function answersPing(connection: PoolConnection): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<false>((resolve) => {
    // After a pause of this process the timer ends before an answer that has come meanwhile is read.
    timer = setTimeout(() => setImmediate(resolve, false), PING_TIMEOUT_MS);
  });
  const answer = connection.ping().then(
    () => true,
    () => false,
  );
  return Promise.race([answer, silence]).finally(() => clearTimeout(timer));
}
