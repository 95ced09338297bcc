/**
 * A development tool: serves PlanetScale's HTTP protocol (`psdb.v1alpha1`) in front of one MySQL-compatible server, so that
 * the API on the edge can be run and tested without PlanetScale. It listens on 127.0.0.1 only, requires a password, and refuses
 * every other Host header, against DNS rebinding: a web page may have its own host name resolve to 127.0.0.1.
 */
import { randomUUID } from 'node:crypto';
import { serve } from '@hono/node-server';
import { fromEnvironment } from '@trellis/contracts/config/environment';
import { PROGRAMS } from '@trellis/contracts/config/variables';
import { connectionOptions, SESSION_SETUP } from '@trellis/drizzle/mysql';
import { type Context, Hono } from 'hono';
import { createPool, type FieldPacket, type Pool, type PoolConnection, type ResultSetHeader } from 'mysql2/promise';

/** A transaction that takes longer is rolled back, as Vitess does. */
const TRANSACTION_WITHIN_MS = 20_000;
const CONNECTIONS = 40;

interface Transaction {
  connection: PoolConnection;
  /** MySQL has rolled it back; every statement but ROLLBACK fails from now on. */
  poisoned: boolean;
  timeout: NodeJS.Timeout;
}

interface MySqlError {
  errno?: number;
  sqlState?: string;
  sqlMessage?: string;
  message: string;
}

/** Vitess's error codes: in the protocol, and in its messages. */
const CODES = {
  ABORTED: 'Aborted',
  ALREADY_EXISTS: 'AlreadyExists',
  DEADLINE_EXCEEDED: 'DeadlineExceeded',
  INVALID_ARGUMENT: 'InvalidArgument',
  NOT_FOUND: 'NotFound',
  UNAVAILABLE: 'Unavailable',
  UNKNOWN: 'Unknown',
} as const;
type Code = keyof typeof CODES;

const CODE_OF_ERRNO: Record<number, Code> = {
  1062: 'ALREADY_EXISTS',
  1064: 'INVALID_ARGUMENT',
  1146: 'NOT_FOUND',
  1205: 'DEADLINE_EXCEEDED',
  1213: 'ABORTED',
  1317: 'DEADLINE_EXCEEDED',
};

/** Vitess's names of MySQL's column types. */
const TYPES: Record<number, string> = {
  1: 'INT8',
  2: 'INT16',
  3: 'INT32',
  4: 'FLOAT32',
  5: 'FLOAT64',
  6: 'NULL_TYPE',
  7: 'TIMESTAMP',
  8: 'INT64',
  9: 'INT24',
  10: 'DATE',
  11: 'TIME',
  12: 'DATETIME',
  13: 'YEAR',
  16: 'BIT',
  245: 'JSON',
  246: 'DECIMAL',
  252: 'TEXT',
  253: 'VARCHAR',
  254: 'CHAR',
};
const BINARY_TYPES: Record<string, string> = { TEXT: 'BLOB', VARCHAR: 'VARBINARY', CHAR: 'BINARY' };
const BINARY_CHARSET = 63;
const UNSIGNED_FLAG = 32;

interface Gateway {
  fetch(request: Request): Response | Promise<Response>;
  close(): Promise<void>;
}

/**
 * Creates a gateway to the server of a `mysql://` URL, for requests to `hosts` with this password. The user name of a call
 * selects the database, as a password does at PlanetScale.
 */
function createGateway(serverUrl: string, { password, hosts }: { password: string; hosts: string[] }): Gateway {
  const pools = new Map<string, Pool>();
  const transactions = new Map<string, Transaction>();

  function poolOf(database: string): Pool {
    const known = pools.get(database);
    if (known) return known;
    const url = new URL(serverUrl);
    url.pathname = `/${database}`;
    const pool = createPool({
      ...connectionOptions(url.href),
      connectionLimit: CONNECTIONS,
      // Databases of tests are short-lived: with maxIdle below connectionLimit the driver closes idle connections.
      maxIdle: CONNECTIONS - 1,
      idleTimeout: 2_000,
      rowsAsArray: true,
    });
    pool.on('connection', (connection) => {
      for (const statement of SESSION_SETUP) connection.query(statement);
    });
    pools.set(database, pool);
    return pool;
  }

  async function begin(id: string, database: string, signal: AbortSignal): Promise<void> {
    await end(id, 'COMMIT');
    const connection = await poolOf(database).getConnection();
    await connection.query('BEGIN');
    // The caller has disconnected and would never end the transaction.
    if (signal.aborted) {
      await connection.query('ROLLBACK');
      return connection.release();
    }
    const timeout = setTimeout(() => {
      transactions.delete(id);
      connection.destroy();
    }, TRANSACTION_WITHIN_MS);
    transactions.set(id, { connection, poisoned: false, timeout });
  }

  /** Ends a transaction, if it is still open. A ROLLBACK of a lost connection counts as done: the server has rolled back. */
  async function end(id: string, how: 'COMMIT' | 'ROLLBACK'): Promise<void> {
    const transaction = transactions.get(id);
    if (!transaction) return;
    transactions.delete(id);
    clearTimeout(transaction.timeout);
    const { connection } = transaction;
    try {
      await connection.query(how);
      connection.release();
    } catch (error) {
      connection.destroy();
      if (how === 'COMMIT') throw error;
    }
  }

  async function outsideTransaction(database: string, query: string, signal: AbortSignal) {
    const connection = await poolOf(database).getConnection();
    const giveUp = () => connection.destroy();
    signal.addEventListener('abort', giveUp);
    try {
      return await runQuery(connection, query);
    } finally {
      signal.removeEventListener('abort', giveUp);
      connection.release();
    }
  }

  async function inTransaction(id: string, { connection }: Transaction, query: string) {
    try {
      return await runQuery(connection, query);
    } catch (error) {
      const { errno } = error as MySqlError;
      const transaction = transactions.get(id);
      if (transaction && (errno === undefined || CODE_OF_ERRNO[errno] === 'ABORTED')) transaction.poisoned = true;
      throw error;
    }
  }

  async function execute(c: Context): Promise<Response> {
    const { query, session } = await c.req.json<{
      query: string;
      session?: { vitessSession?: VitessSession } | null;
    }>();
    const id = session?.vitessSession?.SessionUUID ?? randomUUID();
    const database = decodeURIComponent(credentialsOf(c).user);
    const began = performance.now();
    const answer = (more: object) => {
      const vitessSession: VitessSession = { SessionUUID: id, autocommit: true, inTransaction: transactions.has(id) };
      const timing = (performance.now() - began) / 1000;
      return c.json({ session: { signature: '', vitessSession }, timing, ...more });
    };
    try {
      const statement = query.trim().toUpperCase();
      if (statement === 'BEGIN') await begin(id, database, c.req.raw.signal);
      const transaction = transactions.get(id);
      if (statement === 'ROLLBACK') await end(id, 'ROLLBACK');
      else if (transaction?.poisoned || (!transaction && session?.vitessSession?.inTransaction)) throw ENDED;
      else if (statement === 'COMMIT') await end(id, 'COMMIT');
      else if (statement !== 'BEGIN')
        return answer({
          result: await (transaction
            ? inTransaction(id, transaction, query)
            : outsideTransaction(database, query, c.req.raw.signal)),
        });
      return answer({ result: {} });
    } catch (error) {
      return answer({ error: vitessErrorOf(error as MySqlError, database, query) });
    }
  }

  const app = new Hono();
  app.use(async (c, next) => {
    if (!hosts.includes(c.req.header('host') ?? ''))
      return c.json({ error: { code: 'PERMISSION_DENIED', message: 'this host is not served' } }, 403);
    if (credentialsOf(c).password !== password)
      return c.json({ error: { code: 'UNAUTHENTICATED', message: 'the password is missing or wrong' } }, 401);
    return next();
  });
  app.post('/psdb.v1alpha1.Database/CreateSession', (c) => {
    const vitessSession: VitessSession = { SessionUUID: randomUUID(), autocommit: true, inTransaction: false };
    return c.json({ session: { signature: '', vitessSession } });
  });
  app.post('/psdb.v1alpha1.Database/Execute', execute);

  return {
    fetch: (request) => app.fetch(request),
    async close() {
      for (const [id, { connection, timeout }] of transactions) {
        clearTimeout(timeout);
        connection.destroy();
        transactions.delete(id);
      }
      await Promise.all([...pools.values()].map((pool) => pool.end()));
    },
  };
}

/** The session that a client sends back with its next statement. */
interface VitessSession {
  SessionUUID: string;
  autocommit: boolean;
  inTransaction: boolean;
}

const ENDED: MySqlError = {
  errno: 1213,
  sqlState: '40001',
  message: 'the transaction was aborted: ROLLBACK is required',
};

function credentialsOf(c: Context): { user: string; password: string } {
  const encoded = c.req.header('authorization')?.split(' ')[1] ?? '';
  const [user = '', password = ''] = Buffer.from(encoded, 'base64').toString().split(':');
  return { user, password };
}

async function runQuery(connection: PoolConnection, query: string) {
  // Raw bytes: the client converts them by the column's type.
  const typeCast = (field: { buffer(): Buffer | null }) => field.buffer();
  const [result, fields] = (await connection.query({ sql: query, typeCast })) as unknown as [
    (Buffer | null)[][] | ResultSetHeader,
    FieldPacket[] | undefined,
  ];
  if (!Array.isArray(result))
    return { rowsAffected: `${result.affectedRows}`, insertId: `${result.insertId}`, fields: [], rows: [] };
  return {
    fields: (fields ?? []).map(vitessFieldOf),
    rows: result.map((row) => ({
      lengths: row.map((value) => `${value?.length ?? -1}`),
      values: Buffer.concat(row.filter((value) => value !== null)).toString('base64'),
    })),
  };
}

function vitessFieldOf(field: FieldPacket) {
  const { name, table, orgTable, orgName, columnType = 253, characterSet: charset = 0, columnLength } = field;
  const flags = Number(field.flags);
  const type = TYPES[columnType] ?? 'VARCHAR';
  const binary = charset === BINARY_CHARSET ? BINARY_TYPES[type] : undefined;
  const unsigned = type.startsWith('INT') && (flags & UNSIGNED_FLAG) !== 0 ? `U${type}` : undefined;
  return { name, type: binary ?? unsigned ?? type, table, orgTable, orgName, columnLength, charset, flags };
}

function vitessErrorOf({ errno, sqlState, sqlMessage, message }: MySqlError, database: string, query: string) {
  // Negative numbers are the operating system's errors: the server could not be reached.
  const code: Code = errno === undefined || errno < 0 ? 'UNAVAILABLE' : (CODE_OF_ERRNO[errno] ?? 'UNKNOWN');
  const number = code === 'UNAVAILABLE' ? '' : ` (errno ${errno}) (sqlstate ${sqlState})`;
  const desc = `rpc error: code = ${CODES[code]} desc = ${sqlMessage ?? message}${number}`;
  return {
    code,
    message: `target: ${database}.-.primary: vttablet: ${desc} (CallerID: ${database}): Sql: ${JSON.stringify(query)}`,
  };
}

if (import.meta.main) {
  const { DATABASE_URL, PORT, GATEWAY_PASSWORD: password } = fromEnvironment(PROGRAMS.gateway);
  const hosts = ['127.0.0.1', 'localhost'].map((host) => `${host}:${PORT}`);
  const gateway = createGateway(DATABASE_URL, { password, hosts });
  const server = serve({ fetch: gateway.fetch, hostname: '127.0.0.1', port: PORT }, () => process.send?.('ready'));
  const stop = () => server.close(() => void gateway.close().then(() => process.exit(0)));
  process.once('SIGTERM', stop).once('SIGINT', stop);
}
