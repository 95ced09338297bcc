/** More orders than the workers can finish in time: which are admitted, which are refused, and until when. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { createApp } from '@trellis/api/http/app';
import { createAdmission } from '@trellis/api/orders/admission';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { createOrdersClient, orderErrorOf } from '@trellis/client';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { recordedId } from '@trellis/contracts/id';
import { MAX_UNAPPROVED_ORDERS } from '@trellis/contracts/policy';
import { requestHash } from '@trellis/contracts/request-hash';
import { createCapacityStore } from '@trellis/drizzle/capacity';
import { openDatabase } from '@trellis/drizzle/client';
import type { Database } from '@trellis/drizzle/database';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { createPriceStore } from '@trellis/drizzle/prices';
import { capacity as capacityTable, orders as ordersTable } from '@trellis/drizzle/schema';
import { sql } from 'drizzle-orm';
import { createConnection } from 'mysql2/promise';
import { describe, expect, onTestFinished, test } from 'vitest';
import { AUTH_OFF, anOrder, freshDatabase, freshId, overGateway } from '../fixtures.ts';
import { need } from '../servers.ts';

const { API_URL, TEMPORAL_ADDRESS } = await need('api', 'gateway', 'temporal');

/** Orders a second: slow enough that no order finishes during a test. */
const RATE = 0.1;

async function workersAt(rate: number, over: (url: string) => string | Promise<string> = overMySql) {
  const fresh = await freshDatabase();
  onTestFinished(fresh.drop);
  const url = await over(fresh.url);
  const db = openDatabase(url);
  onTestFinished(db.close);
  const capacity = createCapacityStore(db);
  await capacity.setRate(rate);
  return { server: fresh.url, url, db, capacity };
}

const overMySql = (url: string) => url;
const admitted = (answers: { admitted: boolean }[]) => answers.filter((answer) => answer.admitted).length;

describe.each([
  ['mysql2', overMySql],
  ['PlanetScale’s driver', overGateway],
])('admission over %s', (_, over) => {
  test('admits exactly the orders that can be finished in time, also for concurrent requests from several processes', async () => {
    const { url, capacity } = await workersAt(RATE, over);
    const other = openDatabase(url);
    onTestFinished(other.close);
    const asked = [capacity, createCapacityStore(other)].flatMap((store) =>
      Array.from({ length: 15 }, () => store.admit(100)),
    );
    // One more than fit into 100 s: the last order begins when they end.
    expect(admitted(await Promise.all(asked))).toBe(11);
  });

  test('spreads the retries of refused orders over the queue’s time, however many are refused and however long the workers are busy', async () => {
    for (const hoursBusy of [0, 10]) {
      const { db, capacity } = await workersAt(20, over);
      await db.run((session) =>
        session.execute(sql`UPDATE capacity SET busy_until = busy_until + INTERVAL ${hoursBusy} HOUR`),
      );
      const { admit } = createAdmission(capacity, 'exercise');
      const refused: number[] = [];
      while (refused.length < 3_000) {
        const answer = await admit(freshId());
        if (!answer.admitted) refused.push(answer.retryAfter);
      }
      expect(Math.max(...refused)).toBe(5);
      const shares = [4, 5].map((second) => refused.filter((retry) => retry === second).length / refused.length);
      for (const share of shares) expect(share).toBeGreaterThan(0.15);
    }
  });

  test('asks again after a second, also when the workers were busy for hours', async () => {
    const { db, capacity } = await workersAt(20, over);
    const setBusy = (hours: number) =>
      db.run((session) => session.execute(sql`UPDATE capacity SET busy_until = NOW(6) + INTERVAL ${hours} HOUR`));
    const { admit } = createAdmission(capacity, 'exercise');
    await setBusy(10);
    expect(await admit(freshId())).toMatchObject({ admitted: false });
    await setBusy(0);
    await expect.poll(async () => (await admit(freshId())).admitted, { timeout: 3_000 }).toBe(true);
  });

  test('refuses orders while the database is too busy to answer', async () => {
    const { server, capacity } = await workersAt(20, over);
    const holder = await createConnection(server);
    onTestFinished(() => holder.end());
    await holder.query('BEGIN');
    await holder.query('SELECT id FROM capacity FOR UPDATE');
    expect(await createAdmission(capacity, 'exercise').admit(freshId())).toEqual({ admitted: false, retryAfter: 1 });
  });

  test('counts an order once, however often it is sent', async () => {
    const { capacity } = await workersAt(RATE, over);
    const { admit } = createAdmission(capacity, 'exercise');
    const id = freshId();
    const answers = await Promise.all(Array.from({ length: 30 }, () => admit(id)));
    expect(admitted(answers)).toBe(30);
    expect(answers.filter((answer) => answer.admitted && answer.counted)).toHaveLength(1);
    expect(admitted([await admit(freshId())])).toBe(0);
  });

  test('admits again once the workers have finished', async () => {
    const { capacity } = await workersAt(20, over);
    expect(await capacity.admit(0)).toMatchObject({ admitted: true });
    expect(await capacity.admit(0)).toMatchObject({ admitted: false });
    await expect.poll(async () => (await capacity.admit(0)).admitted).toBe(true);
  });

  test('lets a shop fill half of the queue, and keeps the rest for shops that wait for less', async () => {
    const { capacity } = await workersAt(RATE, over);
    const admittedOf = async (shop: string) =>
      admitted(await Promise.all(Array.from({ length: 15 }, () => capacity.admit(100, shop))));
    // An order takes the workers 10 s, and a shop's quarter of them 40 s.
    expect(await admittedOf('first')).toBe(6);
    expect(await admittedOf('second')).toBe(2);
    expect(await admittedOf('third')).toBe(2);
    expect(await admittedOf('first')).toBe(0);
    expect(await admittedOf('fourth')).toBe(1);
  });

  test('serves ten shops as if alone while another sends many times what the workers can do', async () => {
    const { capacity } = await workersAt(20, over);
    const { admit } = createAdmission(capacity, 'exercise');
    const end = performance.now() + 6_000;
    const answers = { flooding: 0, honest: 0, refused: 0 };
    const flood = async () => {
      while (performance.now() < end) {
        const asked = Array.from({ length: 4 }, () => admit(`flood~${freshId()}`));
        answers.flooding += admitted(await Promise.all(asked));
        await sleep(50);
      }
    };
    const shop = async (_: unknown, n: number) => {
      while (performance.now() < end) {
        const { admitted } = await admit(`shop-${n}~${freshId()}`);
        answers[admitted ? 'honest' : 'refused'] += 1;
        await sleep(1_000);
      }
    };
    await Promise.all([flood(), ...Array.from({ length: 10 }, shop)]);
    expect(answers.refused).toBe(0);
    expect(answers.honest).toBeGreaterThanOrEqual(50);
    // What the others leave of 20 a second.
    expect(answers.flooding).toBeGreaterThan(50);
  });

  test('refuses a shop of which as many orders as may await an approval', async () => {
    const { db, capacity } = await workersAt(20, over);
    await startedDirectly(db, 3, { validated: true, shop: 'acme' });
    expect(await capacity.awaitingApproval('acme', 10)).toBe(3);
    expect(await capacity.awaitingApproval('acme', 2)).toBe(2);
    expect(await capacity.awaitingApproval('other', 10)).toBe(0);
    await awaitingDirectly(db, 'full', MAX_UNAPPROVED_ORDERS);
    const { admit } = createAdmission(capacity, 'exercise');
    expect(await admit('full~o-1')).toMatchObject({ admitted: false });
    expect(await admit('acme~o-1')).toMatchObject({ admitted: true });
  });

  test('can undo an admission that was not needed', async () => {
    const { capacity } = await workersAt(RATE, over);
    for (const shop of ['', 'acme']) {
      await capacity.admit(0, shop);
      await capacity.release(shop);
      expect(admitted([await capacity.admit(0, shop)])).toBe(1);
      await capacity.release(shop);
    }
  });

  test('admits without counting while the table has lost its row', async () => {
    const { db, capacity } = await workersAt(RATE, over);
    await db.run((session) => session.execute(sql`DELETE FROM capacity`));
    expect(await createAdmission(capacity, 'exercise').admit('o-1')).toEqual({ admitted: true, counted: false });
  });

  /** Orders in the state `received`, or awaiting approval. */
  async function startedDirectly(db: Database, count: number, { validated = false, shop = '' } = {}) {
    const orders = createOrderStore(db);
    for (let n = 0; n < count; n += 1) {
      const order = anOrder({ order_id: recordedId(shop, freshId()) });
      await orders.receive(order, { workflow_id: `order-${order.order_id}`, run_id: order.order_id }, null);
      if (validated) await orders.validated(order.order_id, { amount: '2.00', currency: 'EUR' });
    }
  }
  async function awaitingDirectly(db: Database, shop: string, count: number) {
    const fields = {
      shop,
      state: 'awaiting_approval',
      step: 'awaiting_approval',
      workflow_id: '',
      run_id: '',
    } as const;
    for (let left = count; left > 0; left -= 1_000) {
      const rows = Array.from({ length: Math.min(left, 1_000) }, () => ({
        ...fields,
        order_id: recordedId(shop, freshId()),
      }));
      await db.run((session) => session.insert(ordersTable).values(rows), 10_000);
    }
  }
  const openOrders = async (db: Database) =>
    (await db.run((session) => session.select().from(capacityTable)))[0]?.open_orders;

  test('takes the orders into account that were started without admission, and not those that wait for an approval', async () => {
    const { db, capacity } = await workersAt(RATE, over);
    await startedDirectly(db, 2);
    await startedDirectly(db, 3, { validated: true });
    await capacity.countOpenOrders();
    expect(await openOrders(db)).toBe(2);
    expect(admitted([await capacity.admit(15)])).toBe(0);
    expect(admitted([await capacity.admit(25)])).toBe(1);
  });

  test('counts the open orders once a second, however many workers there are', async () => {
    const { db, capacity } = await workersAt(RATE, over);
    const count = () => Promise.all(Array.from({ length: 5 }, () => capacity.countOpenOrders()));
    await count();
    await startedDirectly(db, 1);
    const since = Date.now();
    await count();
    if (Date.now() - since < 500) expect(await openOrders(db)).toBe(0);
    await expect.poll(async () => (await count()) && openOrders(db), { timeout: 3_000 }).toBe(1);
  });

  test('forgets a count that no worker renews, as time passes', async () => {
    const { db, capacity } = await workersAt(RATE, over);
    const countedAgo = (seconds: number) =>
      db.run((session) =>
        session.update(capacityTable).set({ open_orders: 5, counted_at: sql`NOW(6) - INTERVAL ${seconds} SECOND` }),
      );
    await countedAgo(10);
    expect(admitted([await capacity.admit(30)])).toBe(0);
    await countedAgo(55);
    expect(admitted([await capacity.admit(0)])).toBe(1);
  });
});

describe('the API while the workers are at capacity', () => {
  async function appOf({ db, capacity }: Awaited<ReturnType<typeof workersAt>>) {
    const connection = Connection.lazy({ address: TEMPORAL_ADDRESS });
    onTestFinished(() => connection.close());
    const temporal = createGrpcTemporal(createTemporalClient(connection));
    const app = createApp({
      temporal,
      views: createOrderViews(db),
      capacity,
      prices: createPriceStore(db),
      pingDatabase: db.ping,
      policy: 'exercise',
      auth: AUTH_OFF,
      onFailure: () => {},
    });
    const { order_id, ...body } = anOrder();
    return {
      app,
      temporal,
      order: { order_id, ...body },
      start: (id: string) => app.request(`/orders/${id}/start`, { method: 'POST', body: JSON.stringify(body) }),
    };
  }

  async function busyApp() {
    const workers = await workersAt(0.001);
    await workers.capacity.admit(0);
    return appOf(workers);
  }

  test('answers a start with BUSY and the seconds until a retry can help', async () => {
    const { app, order, start } = await busyApp();
    const rest = await start(order.order_id);
    const problem = (await rest.json()) as { retry_after: number };
    expect(rest.status).toBe(429);
    expect(problem).toMatchObject({ code: 'BUSY', retry_after: expect.any(Number) });
    expect(rest.headers.get('retry-after')).toBe(`${problem.retry_after}`);

    const trpc = await app.request('/trpc/orders.start', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(order),
    });
    expect(await trpc.json()).toMatchObject({ error: { data: { code: 'BUSY', retry_after: expect.any(Number) } } });
  });

  test('finds an order that was started before, even if no worker has recorded it yet', async () => {
    const { app, order, start, temporal } = await busyApp();
    const run = await temporal.start(order, await requestHash(order));
    expect(await (await start(order.order_id)).json()).toEqual({ workflow_id: `order-${order.order_id}`, ...run });
    const other = JSON.stringify({ ...order, items: [{ sku: 'ABC', qty: 9 }] });
    const conflict = await app.request(`/orders/${order.order_id}/start`, { method: 'POST', body: other });
    expect(conflict.status).toBe(409);
  });

  test('leaves its room to others when an order that is recorded is sent again', async () => {
    const workers = await workersAt(0.001);
    const { order, start } = await appOf(workers);
    const run = { workflow_id: `order-${order.order_id}`, run_id: 'run-1' };
    await createOrderStore(workers.db).receive(order, run, await requestHash(order));
    expect(await (await start(order.order_id)).json()).toEqual(run);
    expect(admitted([await workers.capacity.admit(0)])).toBe(1);
  });

  test('does not start an order that it refused', async () => {
    const { order, start } = await busyApp();
    await start(order.order_id);
    const orders = createOrdersClient(API_URL);
    const asked = orders.status
      .query({ order_id: order.order_id })
      .catch((error: unknown) => orderErrorOf(error)?.code);
    expect(await asked).toBe('NOT_FOUND');
  });
});
