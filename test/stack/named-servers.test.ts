/** The demo, the trials and the tests run on servers that the environment names, also without the right to create a database. */
import { createOrdersClient } from '@trellis/client';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { openDatabase } from '@trellis/drizzle/client';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { prepareDatabase } from '@trellis/local/stack/database-server';
import { throwAwayFolder } from '@trellis/local/stack/folder';
import { startStack } from '@trellis/local/stack/stack';
import { createConnection } from 'mysql2/promise';
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import { need } from '../servers.ts';

const { DATABASE_URL, canCreateDatabases, TEMPORAL_ADDRESS, TEMPORAL_HTTP_URL } = await need('database', 'temporal');
const silent = () => {};
const startServer = () => Promise.reject(new Error('a server of its own was started'));

afterEach(() => vi.unstubAllEnvs());

/** The URL of an empty database for a user who has `rights` in it, and none elsewhere. */
async function limitedDatabase(rights = 'ALL'): Promise<string> {
  const [database, user] = [freshId('limited').replace('-', '_'), freshId('u')];
  const server = await createConnection(DATABASE_URL);
  await server.query(`CREATE DATABASE ${database}`);
  await server.query(`CREATE USER '${user}'@'%' IDENTIFIED BY 'secret'`);
  await server.query(`GRANT ${rights} ON ${database}.* TO '${user}'@'%'`);
  onTestFinished(async () => {
    await server.query(`DROP DATABASE ${database}`);
    await server.query(`DROP USER '${user}'@'%'`);
    await server.end();
  });
  const url = new URL(DATABASE_URL);
  Object.assign(url, { username: user, password: 'secret', pathname: `/${database}` });
  return url.href;
}

test.runIf(canCreateDatabases)(
  'a stack runs in the named database and on the named Temporal server, in a namespace of its own, and empties that database at its end',
  async () => {
    const url = await limitedDatabase();
    vi.stubEnv('DATABASE_URL', url);
    vi.stubEnv('TEMPORAL_ADDRESS', TEMPORAL_ADDRESS);
    vi.stubEnv('TEMPORAL_HTTP_URL', TEMPORAL_HTTP_URL);
    const { folder, remove } = await throwAwayFolder(silent);
    const stack = await startStack({ folder, persistent: false, say: silent, env: { FLAKY_CALL: 'off' } });
    expect(stack.services.map(({ name }) => name).sort()).toEqual(['api', 'worker']);
    expect(stack.addresses).toMatchObject({ DATABASE_URL: url, TEMPORAL_ADDRESS });
    expect(stack.addresses.TEMPORAL_NAMESPACE).not.toBe('default');

    const orders = createOrdersClient(stack.addresses.API_URL);
    const order = anOrder();
    await orders.start.mutate(order);
    await orders.signal.approve.mutate({ order_id: order.order_id });
    await eventually(async () => isTerminal((await orders.status.query({ order_id: order.order_id })).state));
    expect(await orders.get.query({ order_id: order.order_id })).toMatchObject({ state: 'shipped' });

    await expect(prepareDatabase({ persistent: false, startServer })).rejects.toThrow('its database has orders');
    await stack.stop();
    await remove();
    const db = openDatabase(url);
    expect(await createOrderViews(db).find(order.order_id)).toBeUndefined();
    await db.close();
    expect(await prepareDatabase({ persistent: false, startServer })).toMatchObject({ url, created: false });
  },
);

test.runIf(canCreateDatabases)(
  'a named database is not used, and so not emptied, when its orders can’t be read',
  async () => {
    vi.stubEnv('DATABASE_URL', await limitedDatabase('INSERT'));
    await expect(prepareDatabase({ persistent: false, startServer })).rejects.toThrow(
      'whether its database has orders is unknown',
    );
  },
);
