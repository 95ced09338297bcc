/** The migrations, and what the programs that need only a database say when they can't use it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { createConnection as connectTo, createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { openDatabase } from '@trellis/drizzle/client';
import type { DatabaseError } from '@trellis/drizzle/database';
import { migrate } from '@trellis/drizzle/migrate';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox/books';
import { sandboxCharges, sandboxParcels } from '@trellis/drizzle/sandbox/schema';
import { sql } from 'drizzle-orm';
import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { anOrder, eventually, freshDatabase, freshId } from '../fixtures.ts';
import { need } from '../servers.ts';
import { openSqlProxy } from '../trials/sql-proxy.ts';

const { db, url, drop } = await freshDatabase();
afterAll(drop);

const DRIZZLE = fileURLToPath(new URL('../../drizzle', import.meta.url));
const MONEY = { amount: '2.00', currency: 'EUR' };
const runOf = (id: string) => ({ workflow_id: `order-${id}`, run_id: id });

/** Runs `work` on a connection of its own. */
async function beside<T>(work: (connection: Connection) => Promise<T>, at = url): Promise<T> {
  const connection = await createConnection(at);
  return work(connection).finally(() => connection.end());
}

/** A database without tables. */
async function emptyDatabase() {
  const { url, drop } = await freshDatabase();
  const name = new URL(url).pathname.slice(1);
  await beside(async (connection) => {
    await connection.query(`DROP DATABASE ${name}`);
    await connection.query(`CREATE DATABASE ${name}`);
  });
  const tables = () =>
    beside(async (connection) => {
      const [rows] = await connection.query<RowDataPacket[]>('SHOW TABLES');
      return rows.flatMap((row) => Object.values(row) as string[]).sort();
    }, url);
  return { url, name, tables, drop };
}

/** Runs a program of `drizzle/`, or the one at an absolute path, with these variables to its end. */
async function program(script: string, env: NodeJS.ProcessEnv) {
  const child = spawn(process.execPath, [resolve(DRIZZLE, script)], {
    // Not the repository's root, whose .env would be read.
    cwd: fileURLToPath(new URL('.', import.meta.url)),
    env: { ...env, PATH: process.env.PATH },
  });
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { code, stdout, stderr };
}

describe.each([
  'migrate.ts',
  'sandbox/audit.ts',
])('%s ends with one line that names DATABASE_URL and the server', (script) => {
  const { host } = new URL(url);
  const at = (change: (url: URL) => void) => {
    const changed = new URL(url);
    change(changed);
    return changed.href;
  };

  test.each([
    ['when the port is closed', 'mysql://root:secret@127.0.0.1:1/x', '127.0.0.1:1', 'connect ECONNREFUSED 127.0.0.1:1'],
    ['when the password is wrong', at((url) => (url.password = 'secret')), host, /Access denied for user .+$/],
    ['when the database does not exist', at((url) => (url.pathname = '/nowhere')), host, /Unknown database 'nowhere'$/],
  ])('%s', async (_, DATABASE_URL, server, reason) => {
    const { code, stdout, stderr } = await program(script, { DATABASE_URL });
    expect([code, stdout]).toEqual([1, '']);
    const [, start, why, ...more] = /^(DATABASE_URL \(.+?\)): (.+)\n$/.exec(stderr) ?? [];
    expect([start, more]).toEqual([`DATABASE_URL (${server})`, []]);
    expect(why).toMatch(reason);
    expect(stderr).not.toContain('secret');
  });
});

test.each([
  ['names no database', 'mysql://root:s3cret@127.0.0.1', 'must name a database'],
  ['holds an unencoded #', 'mysql://root:s3cret#x@127.0.0.1/x', 'is not a URL'],
])('a program whose URL %s ends with one line that does not show it', async (_, DATABASE_URL, problem) => {
  const { code, stdout, stderr } = await program('migrate.ts', { DATABASE_URL });
  expect({ code, stdout, stderr }).toEqual({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(/^DATABASE_URL .+\n$/),
  });
  expect(stderr).toContain(problem);
  expect(stderr).not.toContain('s3cret');
});

describe('migrate', () => {
  const PRODUCT = [
    ...['0000_initial', '0001_capacity', '0002_utf8_text_and_open_orders'],
    ...['0003_shops_and_actors', '0004_event_chain', '0005_order_keys', '0006_erasure', '0007_prices'],
  ];
  const SANDBOX = ['0000_sandbox', '0001_utf8_text_and_longer_tracking', '0002_ids_with_shops'];

  test.each(['sources', 'built'])('of the %s prints what it applied', async (from) => {
    const script = from === 'built' ? join((await need('programs')).built, 'migrate.js') : 'migrate.ts';
    const { url: DATABASE_URL, drop } = await emptyDatabase();
    const applied = [...PRODUCT, ...SANDBOX].map((name) => `applied ${name}\n`).join('');
    expect(await program(script, { DATABASE_URL })).toEqual({ code: 0, stdout: applied, stderr: '' });
    expect(await program(script, { DATABASE_URL })).toEqual({ code: 0, stdout: 'up to date\n', stderr: '' });
    await drop();
  });

  test('names SANDBOX_DATABASE_URL when that is the one that fails', async () => {
    const SANDBOX_DATABASE_URL = 'mysql://root:secret@127.0.0.1:1/x';
    const { code, stderr } = await program('migrate.ts', { DATABASE_URL: url, SANDBOX_DATABASE_URL });
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: 'SANDBOX_DATABASE_URL (127.0.0.1:1): connect ECONNREFUSED 127.0.0.1:1\n',
    });
  });

  test('gives an account its rights, and creates none that does not exist', async () => {
    const account = freshId('worker').replace('-', '_');
    const run = () => program('migrate.ts', { DATABASE_URL: url, WORKER_ACCOUNT: `${account}@%` });
    const rights = () =>
      beside(async (connection) => {
        const [rows] = await connection.query<RowDataPacket[]>(`SHOW GRANTS FOR '${account}'@'%'`);
        return rows.map((row) => `${Object.values(row)[0]}`);
      });
    const refused = await run();
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toMatch(/^DATABASE_URL \(.+\): \d+ ER_\w+: .+\n$/);
    await expect(rights()).rejects.toThrow('There is no such grant defined');
    await beside((connection) => connection.query(`CREATE USER '${account}'@'%'`));
    onTestFinished(() => beside(async (connection) => void (await connection.query(`DROP USER '${account}'@'%'`))));
    expect(await run()).toEqual({ code: 0, stdout: 'up to date\n', stderr: '' });
    const onEvents = (await rights()).filter((right) => right.includes('`events`'));
    expect(onEvents).toEqual([expect.stringMatching(/^GRANT SELECT, INSERT ON /)]);
  });

  const applied = (at: string) =>
    beside(
      async (connection) => (await connection.query<RowDataPacket[]>('SELECT * FROM __drizzle_migrations'))[0],
      at,
    );

  test('changes nothing the second time', async () => {
    const order = anOrder();
    await createOrderStore(db).receive(order, runOf(order.order_id), null);
    const view = () => createOrderViews(db).view(order.order_id);
    const [migrations, before] = [await applied(url), await view()];
    expect(await migrate(url)).toEqual([]);
    expect(await applied(url)).toEqual(migrations);
    expect(await view()).toEqual(before);
  });

  /** Version 0.2.0 left such a database. */
  test('upgrades a database whose sandbox tables were made by the product’s migrations, and keeps their rows', async () => {
    const fresh = await freshDatabase();
    const order = anOrder();
    await createParcelBook(fresh.db).take(order.order_id, order.address, 'TRK');
    await createPaymentBook(fresh.db).charge(order.payment_id, order.order_id, MONEY, 'charged');
    await beside((connection) => connection.query('DROP TABLE __drizzle_migrations_sandbox'), fresh.url);
    const rows = () =>
      fresh.db.run((session) => session.select().from(sandboxParcels).innerJoin(sandboxCharges, sql`TRUE`));
    const before = await rows();
    expect(before).toHaveLength(1);
    expect(await migrate(fresh.url)).toEqual(SANDBOX);
    expect(await migrate(fresh.url)).toEqual([]);
    expect(await rows()).toEqual(before);
    await fresh.drop();
  });

  test('creates the sandbox’s tables only in the sandbox’s database when there is one', async () => {
    const [product, sandbox] = [await emptyDatabase(), await emptyDatabase()];
    expect(await migrate(product.url, sandbox.url)).toEqual([...PRODUCT, ...SANDBOX]);
    const [ofProduct, ofSandbox] = [await product.tables(), await sandbox.tables()];
    expect(ofProduct).toContain('orders');
    expect(ofProduct.filter((name) => name.includes('sandbox'))).toEqual([]);
    expect(ofSandbox).toEqual(['__drizzle_migrations_sandbox', 'sandbox_charges', 'sandbox_parcels']);
    await Promise.all([product.drop(), sandbox.drop()]);
  });

  test('run concurrently on an empty database applies each migration once', async () => {
    const empty = await emptyDatabase();
    await Promise.all([1, 2, 3, 4].map(() => migrate(empty.url)));
    expect((await applied(empty.url)).length).toBe((await applied(url)).length);
    const there = openDatabase(empty.url);
    const answer = await createOrderStore(there).receive(anOrder(), { workflow_id: 'w', run_id: 'r' }, null);
    expect(answer).toMatchObject({ owner: true });
    await there.close();
    await empty.drop();
  });

  /** The definition of every table, the applied migrations, and the rows that migrations write. */
  const stateOf = (at: string) =>
    beside(async (connection) => {
      const query = async (statement: string) => (await connection.query<RowDataPacket[]>(statement))[0];
      const names = (await query('SHOW TABLES')).map((row) => `${Object.values(row)[0]}`);
      const tables = await Promise.all(names.map((name) => query(`SHOW CREATE TABLE ${name}`)));
      return {
        tables: tables.map(([row]) => `${row?.['Create Table']}`.replace(/ AUTO_INCREMENT=\d+/, '')),
        applied: await query('SELECT hash, created_at FROM __drizzle_migrations ORDER BY id'),
        capacity: await query('SELECT id, orders_per_second FROM capacity'),
      };
    }, at);

  /**
   * A proxy to the database that breaks a connection at the first statement that writes and that it has not broken at before:
   * in front of the statement, or once the server has carried it out. So each run gets one statement further than the last.
   */
  async function breakingProxy(at: string, when: 'before' | 'after') {
    const { port, hostname } = new URL(at);
    const broken = new Set<string>();
    const sockets = new Set<Socket>();
    const server = createServer((client) => {
      const upstream = connectTo(Number(port), hostname);
      let losing = false;
      const close = () => [client, upstream].map((socket) => socket.destroy());
      for (const socket of [client, upstream]) {
        sockets.add(socket);
        socket.on('error', () => undefined).on('close', close);
      }
      client.on('data', (packet) => {
        const statement = packet.toString('latin1', 5);
        if (!losing && /(CREATE|ALTER|DROP|INSERT|UPDATE|DELETE)\s/.test(statement) && !broken.has(statement)) {
          broken.add(statement);
          if (when === 'before') return close();
          losing = true;
        }
        upstream.write(packet);
      });
      upstream.on('data', (packet) => (losing ? close() : client.write(packet)));
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    onTestFinished(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    const proxied = new URL(at);
    proxied.port = `${(server.address() as AddressInfo).port}`;
    return { url: proxied.href, broken };
  }

  test.each([
    'before',
    'after',
  ] as const)('is killed %s every statement in turn, and in the end all is as without', async (when) => {
    const empty = await emptyDatabase();
    onTestFinished(empty.drop);
    const proxy = await breakingProxy(empty.url, when);
    let runs = 0;
    await beside(async (connection) => {
      // The server ends a broken connection, and with it its lock, a moment later; the next run would wait for that.
      const ended = async () => {
        const [[row]] = await connection.query<RowDataPacket[]>(
          'SELECT COUNT(*) AS connections FROM information_schema.processlist WHERE db = ?',
          [empty.name],
        );
        return row?.connections === 0;
      };
      for (let done = false; !done; ) {
        runs += 1;
        expect(runs).toBeLessThan(500);
        done = await migrate(proxy.url).then(
          () => true,
          () => false,
        );
        await eventually(ended, 5_000, 5);
      }
    });
    expect(runs).toBe(proxy.broken.size + 1);
    expect(runs).toBeGreaterThan(30);
    expect(await stateOf(empty.url)).toEqual(await stateOf(url));
  });

  test('takes over no table of the same name that it did not make', async () => {
    const { url: at, tables, drop } = await emptyDatabase();
    onTestFinished(drop);
    await beside((connection) => connection.query('CREATE TABLE orders (id int)'), at);
    for (let run = 0; run < 2; run += 1)
      expect(await program('migrate.ts', { DATABASE_URL: at })).toEqual({
        code: 1,
        stdout: '',
        stderr: expect.stringMatching(
          /^DATABASE_URL \(.+\): 0000_initial makes tables that exist already: orders\. .+\n$/,
        ),
      });
    expect(await tables()).toEqual(['__drizzle_migrations', 'orders']);
  });

  test('names the statement that the server refused, and does not record it as applied', async () => {
    const { url: at, name, drop } = await emptyDatabase();
    onTestFinished(drop);
    const limited = new URL(at);
    limited.username = `without_index_${name}`.slice(0, 32);
    limited.password = '';
    await beside(async (connection) => {
      await connection.query(`CREATE USER '${limited.username}'@'%'`);
      await connection.query(`GRANT SELECT, INSERT, UPDATE, CREATE ON ${name}.* TO '${limited.username}'@'%'`);
    });
    const refusal = (as: string) => migrate(as).then(String, (error: DatabaseError) => error.reason);
    const refused = /^0000_initial, statement 6 of 9: (\d+) ER_\w+: /;
    expect(refused.exec(await refusal(limited.href))?.[1]).toBe('1142');
    const index = 'attempts_by_order ON attempts';
    await beside((connection) => connection.query(`CREATE INDEX ${index} (step)`), at);
    expect(refused.exec(await refusal(at))?.[1]).toBe('1061');
    expect(refused.exec(await refusal(at))?.[1]).toBe('1061');
    await beside((connection) => connection.query(`DROP INDEX ${index}`), at);
    await migrate(at);
    expect(await stateOf(at)).toEqual(await stateOf(url));
    await beside((connection) => connection.query(`DROP USER '${limited.username}'@'%'`));
  });

  test('does not wait for that of another database on the same server', async () => {
    const [one, other] = [await emptyDatabase(), await emptyDatabase()];
    const proxy = await openSqlProxy(one.url);
    proxy.delayAnswers(100);
    const slow = migrate(proxy.url).then(() => 'slow');
    expect(await Promise.race([slow, migrate(other.url)])).toContain('0000_initial');
    proxy.delayAnswers(0);
    await slow;
    proxy.close();
    await Promise.all([one.drop(), other.drop()]);
  });
});
