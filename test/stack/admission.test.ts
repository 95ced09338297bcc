/** More orders than the workers can finish in time: who is let in, who is turned away, and until when. */
import { Connection } from '@temporalio/client';
import { createApp } from '@trellis/api/http/app';
import { createAdmission } from '@trellis/api/orders/admission';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { createOrdersClient, orderErrorOf } from '@trellis/client';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { requestHash } from '@trellis/contracts/request-hash';
import { createAttemptStore } from '@trellis/drizzle/attempts';
import { createCapacityStore } from '@trellis/drizzle/capacity';
import { openDatabase } from '@trellis/drizzle/client';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { nextRate } from '@trellis/workers/jobs/capacity';
import { describe, expect, inject, onTestFinished, test } from 'vitest';
import { anOrder, freshDatabase, freshId } from '../fixtures.ts';

/** Slow enough that no order is finished while a test looks. */
const RATE = 0.1;

async function workersAt(rate: number, by: 'url' | 'httpUrl' = 'url') {
  const { [by]: url, drop } = await freshDatabase();
  onTestFinished(drop);
  const db = openDatabase(url);
  onTestFinished(db.close);
  const capacity = createCapacityStore(db);
  await capacity.setRate(rate);
  return { url, db, capacity };
}

const admitted = (answers: { admitted: boolean }[]) => answers.filter((answer) => answer.admitted).length;

describe.each([
  ['mysql2', 'url'],
  ['PlanetScale’s driver', 'httpUrl'],
] as const)('admission over %s', (_, by) => {
  test('lets in what is finished in time, however many ask at once and through however many processes', async () => {
    const { url, capacity } = await workersAt(RATE, by);
    const other = openDatabase(url);
    onTestFinished(other.close);
    const asked = [capacity, createCapacityStore(other)].flatMap((store) =>
      Array.from({ length: 15 }, () => store.admit(100)),
    );
    // One more than a hundred seconds hold: the order that is last begins when they end.
    expect(admitted(await Promise.all(asked))).toBe(11);
  });

  test('gives each of those it turns away a turn of its own, as far apart as the workers are fast', async () => {
    const { capacity } = await workersAt(RATE, by);
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

  test('lets an order in once, however often it is sent', async () => {
    const { capacity } = await workersAt(RATE, by);
    const { admit } = createAdmission(capacity, 'exercise');
    const id = freshId();
    const answers = await Promise.all(Array.from({ length: 30 }, () => admit(id)));
    expect(admitted(answers)).toBe(30);
    expect(answers.filter((answer) => answer.admitted && answer.counted)).toHaveLength(1);
    expect(admitted([await admit(freshId())])).toBe(0);
  });

  test('lets in again once the workers are through', async () => {
    const { capacity } = await workersAt(20, by);
    expect(await capacity.admit(0)).toMatchObject({ admitted: true });
    expect(await capacity.admit(0)).toMatchObject({ admitted: false });
    await expect.poll(async () => (await capacity.admit(0)).admitted).toBe(true);
  });

  test('takes back what was not needed', async () => {
    const { capacity } = await workersAt(RATE, by);
    await capacity.admit(0);
    await capacity.release();
    expect(admitted([await capacity.admit(0)])).toBe(1);
  });

  test('counts the orders that came in without asking it', async () => {
    const { db, capacity } = await workersAt(RATE, by);
    const orders = createOrderStore(db);
    for (const order of [anOrder(), anOrder()])
      await orders.receive(order, { workflow_id: `order-${order.order_id}`, run_id: order.order_id }, null);
    expect(admitted([await capacity.admit(15)])).toBe(0);
    expect(admitted([await capacity.admit(25)])).toBe(1);
  });

  test('does not count those that wait for a person', async () => {
    const { db, capacity } = await workersAt(RATE, by);
    const orders = createOrderStore(db);
    const order = anOrder();
    await orders.receive(order, { workflow_id: `order-${order.order_id}`, run_id: order.order_id }, null);
    expect(admitted([await capacity.admit(0)])).toBe(0);
    await orders.validated(order.order_id, { amount: '2.00', currency: 'EUR' });
    await expect.poll(async () => admitted([await capacity.admit(0)])).toBe(1);
  });
});

describe('what workers promise', () => {
  const at = (ordersPerSecond: number, shippedPerSecond: number) => ({ ordersPerSecond, shippedPerSecond });

  test('stays when they had little to do', () => {
    expect(nextRate(at(6, 0.5), 0)).toBe(6);
  });

  test('grows while they keep up with all they are given, and a little beyond', () => {
    let rate = 6;
    for (let second = 0; second < 60; second += 1) rate = nextRate(at(rate, Math.min(rate, 8)), 0);
    expect(rate).toBeGreaterThan(8);
    expect(rate).toBeLessThan(9);
  });

  test('falls to what they finish when they stay behind, but not because of a moment', () => {
    expect(nextRate(at(6, 1), 2)).toBe(6);
    let rate = 12;
    for (let second = 5; second < 45; second += 1) rate = nextRate(at(rate, 4), second);
    expect(rate).toBeCloseTo(4, 1);
  });

  test('never falls so low that they could not show that they have recovered', () => {
    let rate = 6;
    for (let second = 5; second < 100; second += 1) rate = nextRate(at(rate, 0), second);
    expect(rate).toBe(2);
  });
});

describe('the API of workers that have all they can do', () => {
  async function busyApp() {
    const { db, capacity } = await workersAt(0.001);
    await capacity.admit(0);
    const connection = Connection.lazy({ address: inject('addresses').TEMPORAL_ADDRESS });
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

  test('answers a start with BUSY and the seconds after which to try again', async () => {
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

  test('knows an order that it has started before, though nobody has recorded it yet', async () => {
    const { app, order, start, temporal } = await busyApp();
    const run = await temporal.start(order, await requestHash(order));
    expect(await (await start(order.order_id)).json()).toEqual({ workflow_id: `order-${order.order_id}`, ...run });
    const other = JSON.stringify({ ...order, items: [{ sku: 'ABC', qty: 9 }] });
    const conflict = await app.request(`/orders/${order.order_id}/start`, { method: 'POST', body: other });
    expect(conflict.status).toBe(409);
  });

  test('starts nothing that it turned away', async () => {
    const { order, start } = await busyApp();
    await start(order.order_id);
    const orders = createOrdersClient(inject('addresses').API_URL);
    const asked = orders.status
      .query({ order_id: order.order_id })
      .catch((error: unknown) => orderErrorOf(error)?.code);
    expect(await asked).toBe('NOT_FOUND');
  });
});
