/** Admission: which starts are accepted while more orders arrive than the workers finish in time, and the Retry-After of the others. */
import { Connection } from '@temporalio/client';
import { createOrdersClient, orderErrorOf } from '@trellis/api/client/index';
import { createApp } from '@trellis/api/http/app';
import { createAdmission } from '@trellis/api/orders/admission';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { requestHash } from '@trellis/contracts/request-hash';
import { createAttemptStore } from '@trellis/drizzle/attempts';
import { createCapacityStore } from '@trellis/drizzle/capacity';
import { openDatabase } from '@trellis/drizzle/client';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { describe, expect, onTestFinished, test } from 'vitest';
import { anOrder, freshDatabase, freshId, overGateway } from '../fixtures.ts';
import { need } from '../servers.ts';

const { API_URL, TEMPORAL_ADDRESS } = await need('api', 'gateway', 'temporal');

/** Orders per second, so few that none is finished while a test runs. */
const RATE = 0.1;

async function workersAt(rate: number, over: (url: string) => string | Promise<string> = overMySql) {
  const fresh = await freshDatabase();
  onTestFinished(fresh.drop);
  const url = await over(fresh.url);
  const db = openDatabase(url);
  onTestFinished(db.close);
  const capacity = createCapacityStore(db);
  await capacity.promise(rate);
  return { url, db, capacity };
}

const overMySql = (url: string) => url;
const admitted = (answers: { admitted: boolean }[]) => answers.filter((answer) => answer.admitted).length;

describe.each([
  ['mysql2', overMySql],
  ['PlanetScale’s driver', overGateway],
])('admission over %s', (_, over) => {
  test('admits as many orders as can be finished in time, for any number of concurrent requests and processes', async () => {
    const { url, capacity } = await workersAt(RATE, over);
    const other = openDatabase(url);
    onTestFinished(other.close);
    const asked = [capacity, createCapacityStore(other)].flatMap((store) =>
      Array.from({ length: 15 }, () => store.admit(100)),
    );
    // A hundred seconds hold ten orders; the eleventh begins when they are finished.
    expect(admitted(await Promise.all(asked))).toBe(11);
  });

  test('gives each refused order a Retry-After of its own, spaced by the workers’ rate', async () => {
    const { capacity } = await workersAt(RATE, over);
    const { admit } = createAdmission(capacity, 'exercise');
    await admit(freshId());
    const turns: number[] = [];
    for (let n = 0; n < 4; n += 1) {
      const answer = await admit(freshId());
      if (!answer.admitted) turns.push(answer.retryAfter);
    }
    const [first = 0, ...later] = turns;
    expect(first).toBeGreaterThan(10);
    expect(later.map((turn) => turn - first)).toEqual([10, 20, 30]);
  });

  test('counts an order once, however often its start is repeated', async () => {
    const { capacity } = await workersAt(RATE, over);
    const { admit } = createAdmission(capacity, 'exercise');
    const id = freshId();
    const answers = await Promise.all(Array.from({ length: 30 }, () => admit(id)));
    expect(admitted(answers)).toBe(30);
    expect(answers.filter((answer) => answer.admitted && answer.counted)).toHaveLength(1);
    expect(admitted([await admit(freshId())])).toBe(0);
  });

  test('admits again once the workers have finished what was admitted', async () => {
    const { capacity } = await workersAt(20, over);
    expect(await capacity.admit(0)).toMatchObject({ admitted: true });
    expect(await capacity.admit(0)).toMatchObject({ admitted: false });
    await expect.poll(async () => (await capacity.admit(0)).admitted).toBe(true);
  });

  test('admits another order after an unused admission is given back', async () => {
    const { capacity } = await workersAt(RATE, over);
    await capacity.admit(0);
    await capacity.giveBack();
    expect(admitted([await capacity.admit(0)])).toBe(1);
  });

  test('counts orders that were started without admission', async () => {
    const { db, capacity } = await workersAt(RATE, over);
    const orders = createOrderStore(db);
    for (const order of [anOrder(), anOrder()])
      await orders.receive(order, { workflow_id: `order-${order.order_id}`, run_id: order.order_id }, null);
    expect(admitted([await capacity.admit(15)])).toBe(0);
    expect(admitted([await capacity.admit(25)])).toBe(1);
  });

  test('does not count orders that await their approval', async () => {
    const { db, capacity } = await workersAt(RATE, over);
    const orders = createOrderStore(db);
    const order = anOrder();
    await orders.receive(order, { workflow_id: `order-${order.order_id}`, run_id: order.order_id }, null);
    expect(admitted([await capacity.admit(0)])).toBe(0);
    await orders.validated(order.order_id, { amount: '2.00', currency: 'EUR' });
    await expect.poll(async () => admitted([await capacity.admit(0)])).toBe(1);
  });
});

describe('the API of workers at full load', () => {
  async function busyApp() {
    const { db, capacity } = await workersAt(0.001);
    await capacity.admit(0);
    const connection = Connection.lazy({ address: TEMPORAL_ADDRESS });
    onTestFinished(() => connection.close());
    const temporal = createGrpcTemporal(createTemporalClient(connection));
    const app = createApp({
      temporal,
      views: createOrderViews(db),
      attempts: createAttemptStore(db),
      capacity,
      policy: 'exercise',
      onError: () => {},
    });
    const { order_id, ...body } = anOrder();
    return {
      app,
      temporal,
      order: { order_id, ...body },
      start: (id: string) => app.request(`/orders/${id}/start`, { method: 'POST', body: JSON.stringify(body) }),
    };
  }

  test('refuses a start with BUSY and the seconds to wait before a retry', async () => {
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

  test('returns the run of an order that it started before, even without a row in SQL', async () => {
    const { app, order, start, temporal } = await busyApp();
    const run = await temporal.start(order, await requestHash(order));
    expect(await (await start(order.order_id)).json()).toEqual({ workflow_id: `order-${order.order_id}`, ...run });
    const other = JSON.stringify({ ...order, items: [{ sku: 'ABC', qty: 9 }] });
    const conflict = await app.request(`/orders/${order.order_id}/start`, { method: 'POST', body: other });
    expect(conflict.status).toBe(409);
  });

  test('starts no workflow for a refused order', async () => {
    const { order, start } = await busyApp();
    await start(order.order_id);
    const orders = createOrdersClient(API_URL);
    const asked = orders.status
      .query({ order_id: order.order_id })
      .catch((error: unknown) => orderErrorOf(error)?.code);
    expect(await asked).toBe('NOT_FOUND');
  });
});
