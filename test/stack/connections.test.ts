/** Connections to the database: forgotten by the network, refused, and on a server with unusual settings or with TLS. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { defaultFailureConverter, defaultPayloadConverter } from '@temporalio/common';
import { checkDatabase, openDatabase } from '@trellis/drizzle/client';
import { type Database, DatabaseError, type Session } from '@trellis/drizzle/database';
import { migrate } from '@trellis/drizzle/migrate';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { startDatabase } from '@trellis/local/stack/database-server';
import { freePort } from '@trellis/local/stack/ports';
import { sql } from 'drizzle-orm';
import { createConnection } from 'mysql2/promise';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { anOrder, freshId, overGateway } from '../fixtures.ts';
import { need } from '../servers.ts';
import { makeCertificates } from '../tls-proxy.ts';
import { openSqlProxy } from '../trials/sql-proxy.ts';

const { DATABASE_URL } = await need('database');

const connectionId = async (session: Session): Promise<number> => {
  const [row] = await session.select({ id: sql<string>`CONNECTION_ID()` }).from(sql`(SELECT 1) AS one`);
  return Number(row?.id);
};

/** A database behind a proxy, with all 20 connections of its pool open. */
async function throughProxy() {
  const proxy = await openSqlProxy(DATABASE_URL);
  const db = openDatabase(proxy.url);
  onTestFinished(async () => {
    proxy.close();
    await db.close();
  });
  const twenty = () =>
    Promise.all(
      Array.from({ length: 20 }, () =>
        db.transaction(async (session) => {
          await session.execute('SELECT SLEEP(0.2)');
          return connectionId(session);
        }),
      ),
    );
  const open = new Set(await twenty());
  expect(open.size).toBe(20);
  return { db, proxy, open };
}

async function timed<T>(call: Promise<T>): Promise<{ result: T; ms: number }> {
  const start = performance.now();
  return { result: await call, ms: performance.now() - start };
}

test('after the network forgot connections that were used a moment ago one call waits for its timeout, and then none', async () => {
  const { db, proxy, open } = await throughProxy();
  proxy.forget();
  await expect(db.run(connectionId)).rejects.toMatchObject({ kind: 'silent', message: 'the database does not answer' });
  const next = await timed(Promise.all(Array.from({ length: 20 }, () => db.run(connectionId))));
  expect(next.ms).toBeLessThan(1_000);
  for (const id of next.result) expect(open).not.toContain(id);
});

test('after the network forgot 20 idle connections the next calls succeed, and only the first one waits', async () => {
  const { db, proxy, open } = await throughProxy();
  await sleep(600);
  proxy.forget();
  const first = await timed(db.transaction(connectionId));
  expect(first.ms).toBeLessThan(1_000);
  expect(open).not.toContain(first.result);
  // Ten connections at once, taken one after the other within one timeout of 2 s: waiting 300 ms for each would exceed it.
  const nested = (deep: number): Promise<unknown> => db.run(() => (deep > 1 ? nested(deep - 1) : db.run(connectionId)));
  await nested(9);
});

test('a call for which no connection becomes free does not call the database silent', async () => {
  const url = new URL(DATABASE_URL);
  url.searchParams.set('connectionLimit', '1');
  const db = openDatabase(url.href);
  onTestFinished(() => db.close());
  const slow = db.run((session) => session.execute('SELECT SLEEP(2.5)'), 5_000);
  await expect(db.run(connectionId)).rejects.toMatchObject({
    kind: 'busy',
    message: 'all connections to the database are in use',
    reason: 'none of 1 connections became free within 2000 ms',
  });
  await slow;
  await db.run(connectionId);
});

test('a ping is answered, or fails within its time', async () => {
  const { db, proxy } = await throughProxy();
  await db.ping(1_000);
  proxy.delayAnswers(60_000);
  const failed = await timed(expect(db.ping(200)).rejects.toBeInstanceOf(DatabaseError));
  expect(failed.ms).toBeLessThan(1_000);
});

test('the check at a program’s start names the variable and the reason in one line', async () => {
  const line = async (url: string) => {
    const db = openDatabase(url);
    return checkDatabase(db, 'DATABASE_URL', url).finally(() => db.close());
  };
  const changed = (change: (url: URL) => void) => {
    const url = new URL(DATABASE_URL);
    change(url);
    return url.href;
  };
  const { host } = new URL(DATABASE_URL);
  expect(await line(DATABASE_URL)).toBeUndefined();
  expect(await line(await overGateway(DATABASE_URL))).toBeUndefined();
  expect(await line('mysql://root:s3cret@127.0.0.1:1/x')).toBe(
    'DATABASE_URL (127.0.0.1:1): connect ECONNREFUSED 127.0.0.1:1',
  );
  expect(await line(changed((url) => (url.password = 's3cret')))).toMatch(
    new RegExp(`^DATABASE_URL \\(${host}\\): 1045 ER_ACCESS_DENIED_ERROR: Access denied for user .+$`),
  );
  expect(await line(changed((url) => (url.pathname = '/mysql')))).toMatch(
    /^DATABASE_URL \(.+\): 1146 ER_NO_SUCH_TABLE: Table 'mysql\.\w+' doesn't exist; run npm run migrate$/,
  );
});

describe.each([
  { driver: 'mysql2', at: DATABASE_URL },
  { driver: 'PlanetScale’s driver', at: await overGateway(DATABASE_URL) },
])('an error of the database over $driver', ({ at }) => {
  const db = openDatabase(at);
  afterAll(() => db.close());
  const SECRET = `88 Private Ave's "x" (errno 1213) (sqlstate 40001) desc = ' for column 's3cret`;
  const id = freshId('secret');
  const KEY = `s3cret-key (errno 1213) (sqlstate 40001) ' for key 's3cret`;
  const payments = (...rows: [id: string, amount: string][]) => {
    const values = rows.map(([key, amount]) => sql`(${key}, ${id}, 's', ${amount}, '')`);
    return sql`INSERT INTO payments (payment_id, order_id, status, amount, currency) VALUES ${sql.join(values, sql`, `)}`;
  };
  const insert = (columns: string, values: ReturnType<typeof sql>) =>
    sql`INSERT INTO attempts (order_id, step, attempt, error, ${sql.raw(columns)}) VALUES (${id}, 's', 1, 'e', ${values})`;

  test.each([
    [
      'data too long',
      1406,
      sql`INSERT INTO attempts (order_id, step, attempt, error) VALUES (${id}, ${SECRET}, 1, '')`,
    ],
    ['not a number', 1366, payments([KEY, `Private ${SECRET}`])],
    ['not a time', 1292, insert('ts', sql`${SECRET}`)],
    ['no such table', 1146, sql`SELECT ${SECRET} FROM nowhere`],
    ['no such column', 1054, sql`SELECT ${SECRET}, nothing FROM attempts`],
    ['syntax', 1064, sql`SELECT ${SECRET} ${SECRET} FROM FROM`],
    ['a key that exists', 1062, payments([KEY, '1'], [KEY, '1'])],
    ['a signal', 1644, sql`SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = ${`broken '${SECRET}'`}`],
  ])('%s: its words are in the log, values and statement are nowhere', async (_, errno, statement) => {
    const error: DatabaseError = await db
      .run((session) => session.execute(statement))
      .then(
        () => expect.unreachable(),
        (thrown) => thrown,
      );
    expect(error).toBeInstanceOf(DatabaseError);
    expect(error).toMatchObject({ errno, permanent: errno !== 1644, message: 'the database refused the statement' });
    // A logger writes message, stack and own properties; what Temporal records is a failure.
    expect({ ...error }.reason).toMatch(new RegExp(`^${errno}\\b`));
    const failure = JSON.stringify(defaultFailureConverter.errorToFailure(error, defaultPayloadConverter));
    for (const told of [inspect(error, { depth: 9, showHidden: true }), failure])
      expect(told).not.toMatch(/Private|s3cret|INSERT INTO|SELECT '|secret-/i);
  });

  test('a server that is read-only is left for another one, and its connections with it', async () => {
    const id = await db.run(connectionId);
    let runs = 0;
    const after = await db.transaction(async (session) => {
      runs += 1;
      if (runs === 1)
        await session.execute(sql`SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = 'read-only'`);
      return connectionId(session);
    });
    expect(runs).toBe(2);
    if (at === DATABASE_URL) expect(after).not.toBe(id);
  });

  test('too many connections are waited for', async () => {
    let runs = 0;
    const limit = sql`SIGNAL SQLSTATE '08004' SET MYSQL_ERRNO = 1040, MESSAGE_TEXT = 'Too many connections'`;
    await db.run(async (session) => {
      runs += 1;
      if (runs <= 10) await session.execute(limit);
    });
    expect(runs).toBe(11);
  });
});

describe('on a server of its own', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'trellis-sql-'));
  const certificates = makeCertificates(join(folder, 'tls'), 'localhost');
  const port = await freePort();
  const server = await startDatabase({
    folder,
    port,
    say: () => {},
    settings: [
      `--ssl-cert=${certificates.server.cert}`,
      `--ssl-key=${certificates.server.key}`,
      '--character-set-server=latin1',
      '--skip-character-set-client-handshake',
      '--default-time-zone=+05:30',
      '--transaction-isolation=READ-COMMITTED',
    ],
  });
  afterAll(async () => {
    await server.stop();
    await rm(folder, { recursive: true });
  });
  const root = await createConnection(server.url);
  await root.query('CREATE DATABASE odd');
  await root.query("CREATE USER secure@'%' REQUIRE SSL");
  await root.query("GRANT ALL ON odd.* TO secure@'%'");
  const oddUrl = `${server.url}/odd`;
  await migrate(oddUrl);

  async function opened<T>(url: string, work: (db: Database) => Promise<T>): Promise<T> {
    const db = openDatabase(url);
    return work(db).finally(() => db.close());
  }

  test.each([
    '',
    'NO_BACKSLASH_ESCAPES',
    'ANSI',
    'TRADITIONAL',
  ])('an order is written and read exactly under sql_mode "%s"', async (mode) => {
    await root.query('SET GLOBAL sql_mode = ?', [mode]);
    await opened(oddUrl, async (db) => {
      const line1 = `it's 8\\" “Größe” 日本語 😢 \u0000 -- '); DROP TABLE orders`;
      const order = anOrder({ address: { line1, city: 'Zürich' } });
      const before = Date.now();
      await createOrderStore(db).receive(order, { workflow_id: 'w', run_id: 'r' }, null);
      const view = await createOrderViews(db).view(order.order_id);
      expect(view).toMatchObject({ address: order.address, items: order.items });
      expect(Math.abs(Date.parse(view?.created_at ?? '') - before)).toBeLessThan(5_000);
      const settings = sql`SELECT @@sql_mode AS mode, @@collation_connection AS collation`;
      const [[row]] = (await db.run((session) => session.execute(settings))) as unknown as [Record<string, string>[]];
      expect(row?.mode).toContain('STRICT_TRANS_TABLES');
      expect(row?.collation).toBe('utf8mb4_unicode_ci');
      await expect(
        db.run((session) =>
          session.execute(sql`UPDATE orders SET step = ${'x'.repeat(33)} WHERE id = ${order.order_id}`),
        ),
      ).rejects.toMatchObject({ errno: 1406, permanent: true });
    });
  });

  test('a column of JSON returns what was written, also a text that looks like JSON', async () => {
    await opened(oddUrl, async (db) => {
      for (const value of ['x', '123', '{"a":1}', 5, null, ['y']]) {
        const order = anOrder({ address: value as never });
        await createOrderStore(db).receive(order, { workflow_id: 'w', run_id: 'r' }, null);
        expect((await createOrderViews(db).view(order.order_id))?.address).toEqual(value);
      }
    });
  });

  const cipher = (url: string) =>
    opened(url, async (db) => {
      const status = await db.run((session) => session.execute(sql`SHOW SESSION STATUS LIKE 'Ssl_cipher'`));
      return (status as unknown as [{ Value: string }[]])[0][0]?.Value ? 'TLS' : 'no TLS';
    }).catch((error) => (error instanceof DatabaseError && error.permanent ? error.reason : Promise.reject(error)));

  const ca = `ssl-ca=${certificates.ca}`;
  const pem = encodeURIComponent(JSON.stringify({ ca: await readFile(certificates.ca, 'utf8') }));
  const [SELF_SIGNED, WRONG_NAME] = [/self-signed certificate|unable to/, /does not match|altnames/];
  test.each([
    ['', 'localhost', /^1045/],
    ['ssl=false', 'localhost', /^1045/],
    ['ssl-mode=DISABLED', 'localhost', /^1045/],
    ['ssl-mode=REQUIRED', 'localhost', /^TLS$/],
    ['sslmode=require', '127.0.0.1', /^TLS$/],
    ['tls=skip-verify', 'localhost', /^TLS$/],
    ['sslaccept=accept_invalid_certs', 'localhost', /^TLS$/],
    ['useSSL=true&verifyServerCertificate=false', 'localhost', /^TLS$/],
    [`ssl=${encodeURIComponent('{"rejectUnauthorized":false}')}`, 'localhost', /^TLS$/],
    ['ssl=true', 'localhost', SELF_SIGNED],
    ['ssl={}', 'localhost', SELF_SIGNED],
    ['tls=true', 'localhost', SELF_SIGNED],
    ['ssl-mode=VERIFY_CA', 'localhost', SELF_SIGNED],
    [`ssl=${pem}`, 'localhost', /^TLS$/],
    [`ssl=true&${ca}`, 'localhost', /^TLS$/],
    [`ssl-mode=VERIFY_CA&${ca}`, '127.0.0.1', /^TLS$/],
    [`ssl-mode=VERIFY_IDENTITY&${ca}`, 'localhost', /^TLS$/],
    // A name of the same host that is not the certificate's.
    [`ssl-mode=VERIFY_IDENTITY&${ca}`, '127.1', WRONG_NAME],
    [`sslmode=verify-full&${ca}`, '127.1', WRONG_NAME],
    [`ssl-mode=VERIFY_CA&${ca}`, '127.1', /^TLS$/],
  ])('TLS as "%s" at %s', async (options, host, outcome) => {
    expect(await cipher(`mysql://secure@${host}:${port}/odd?${options}`)).toMatch(outcome);
  });

  test('the migrations run over TLS', async () => {
    expect(await migrate(`mysql://secure@localhost:${port}/odd?ssl-mode=VERIFY_IDENTITY&${ca}`)).toEqual([]);
  });
});
