/**
 * Each program's account in the database can do what the program needs, and nothing more. That workflows, sweep and API need no more is
 * also shown by all other tests: their workers and APIs have these accounts.
 */

import { openApiStores } from '@trellis/drizzle/api-stores';
import { checkDatabase, openDatabase } from '@trellis/drizzle/client';
import type { DatabaseError } from '@trellis/drizzle/database';
import * as sandboxSchema from '@trellis/drizzle/sandbox/schema';
import * as schema from '@trellis/drizzle/schema';
import { openStores } from '@trellis/drizzle/stores';
import { accountsOn } from '@trellis/local/stack/accounts';
import { afterAll, describe, expect, test } from 'vitest';
import { anOrder, freshDatabase } from '../fixtures.ts';

const { url, drop } = await freshDatabase();
const accounts = await accountsOn(url);
const [api, worker] = [openDatabase(accounts.api), openDatabase(accounts.worker)];
afterAll(async () => {
  await Promise.all([api.close(), worker.close()]);
  await accounts.drop();
  await drop();
});

const order = anOrder();
await openStores(worker).orders.receive(order, { workflow_id: 'w', run_id: 'r' }, null);

/** Errnos of a right that the account does not have on a table, and on a column. */
const DENIED = [1142, 1143];

const EVENT = `(order_id, type, dedupe_key) VALUES ('${order.order_id}', 'order_shipped', 'order_shipped')`;

// Without accounts of its own a program has all the rights of the URL's.
describe.skipIf(accounts.worker === url)('the database refuses', () => {
  test.each([
    ['the worker', 'to change an event', worker, "UPDATE events SET type = 'order_approved'"],
    ['the worker', 'to move an event', worker, 'UPDATE events SET id = id + 1'],
    [
      'the worker',
      'to change an event that it inserts again',
      worker,
      `INSERT INTO events ${EVENT} ON DUPLICATE KEY UPDATE id = id + 1`,
    ],
    ['the worker', 'to replace an event', worker, `REPLACE INTO events ${EVENT}`],
    ['the worker', 'to delete an event', worker, 'DELETE FROM events'],
    ['the worker', 'to empty the table of events', worker, 'TRUNCATE events'],
    ['the worker', 'to delete an order', worker, 'DELETE FROM orders'],
    ['the worker', 'to delete a payment', worker, 'DELETE FROM payments'],
    ['the worker', 'to change a price', worker, 'UPDATE prices SET amount = 1'],
    ['the worker', 'to change a table', worker, 'ALTER TABLE events DROP COLUMN hash'],
    ['the worker', 'to make a table', worker, 'CREATE TABLE more (id int)'],
    ['the API', 'to insert an event', api, `INSERT INTO events ${EVENT}`],
    ['the API', 'to change an order', api, "UPDATE orders SET state = 'shipped'"],
    ['the API', 'to change a payment', api, "UPDATE payments SET status = 'refunded'"],
    ['the API', 'to add a price', api, "INSERT INTO prices (sku, amount, currency) VALUES ('A', 1, 'EUR')"],
    ['the API', 'to change the rate of admission', api, 'UPDATE capacity SET orders_per_second = 1000'],
    ['the API', 'to read the companies’ books', api, 'SELECT * FROM sandbox_charges'],
  ])('%s %s', async (_, __, db, statement) => {
    const refused = await db
      .run((session) => session.execute(statement))
      .then(
        () => undefined,
        (error: DatabaseError) => error.errno,
      );
    expect(DENIED).toContain(refused);
  });
});

test('the API’s account can do all that its stores do', async () => {
  expect(await checkDatabase(api, 'DATABASE_URL', accounts.api)).toBeUndefined();
  const { views, capacity, prices } = openApiStores(api);
  expect(await prices.of('', ['ABC'])).toBeUndefined();
  expect(await views.view(order.order_id)).toMatchObject({ state: 'received' });
  expect(await views.find(order.order_id)).toMatchObject({ state: 'received' });
  expect(await views.status(order.order_id, 1)).toMatchObject({ recorded: { status: { state: 'received' } } });
  expect((await views.list({ limit: 1 })).orders).toHaveLength(1);
  for (const shop of ['', 'red']) {
    expect(await capacity.admit(60, shop)).toMatchObject({ admitted: true });
    await capacity.release(shop);
  }
  expect(await capacity.awaitingApproval('red', 1)).toBe(0);
});

test('the worker’s account can do what its jobs do', async () => {
  expect(await checkDatabase(worker, 'DATABASE_URL', accounts.worker)).toBeUndefined();
  const ofSandbox = checkDatabase(worker, 'DATABASE_URL', accounts.worker, Object.values(sandboxSchema));
  expect(await ofSandbox).toBeUndefined();
  const { attempts, capacity, openOrders } = openStores(worker);
  const failure = { order_id: order.order_id, step: 'charge_payment', error: 'x' };
  await attempts.add(Array.from({ length: 130 }, (_, attempt) => ({ ...failure, attempt })));
  await attempts.dropExcess([order.order_id]);
  expect(await attempts.dropOld()).toBe(false);
  expect(await worker.run((session) => session.select().from(schema.attempts))).toHaveLength(100);
  await capacity.countOpenOrders();
  await capacity.setRate(9);
  expect(await capacity.rates(60)).toMatchObject({ ordersPerSecond: 9 });
  expect(await openOrders.inState('received', undefined, 1)).toEqual([]);
});
