import { setTimeout as sleep } from 'node:timers/promises';
import { createOrdersClient } from '@trellis/api/client';
import { isClosed } from '@trellis/contracts/lifecycle';
import { audit } from '@trellis/drizzle/audit';
import { type Database, openDatabase } from '@trellis/drizzle/client';
import { type Stack, startStack, throwAwayFolder } from '@trellis/local/stack';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { anOrder, eventually } from './support.ts';

/** The whole stack as `npm start` makes it, faults and all, in processes of its own. */
describe('under flaky_call', () => {
  const silent = () => {};
  let stack: Stack;
  let db: Database;
  let client: ReturnType<typeof createOrdersClient>;
  let remove: () => Promise<void>;

  beforeAll(async () => {
    const place = await throwAwayFolder(silent);
    remove = place.remove;
    stack = await startStack({ folder: place.folder, persistent: false, env: { FLAKY_CALL: 'on' }, say: silent });
    db = openDatabase(stack.addresses.DATABASE_URL);
    client = createOrdersClient(stack.addresses.API_URL);
  });

  afterAll(async () => {
    await db.close();
    await stack.stop();
    await remove();
  });

  const statusOf = (order_id: string) => client.status.query({ order_id });

  const closed = (order_id: string, within: number) =>
    eventually(async () => {
      const status = await statusOf(order_id);
      return isClosed(status.state) && status;
    }, within);

  test('forty orders at once all ship within fifteen seconds, each charged once', async () => {
    const orders = Array.from({ length: 40 }, () => anOrder());
    const ends = await Promise.all(
      orders.map(async (order) => {
        const began = performance.now();
        await client.start.mutate(order);
        await sleep(800);
        await client.signal.approve.mutate({ order_id: order.order_id });
        const { state } = await closed(order.order_id, 30_000);
        return { state, seconds: (performance.now() - began) / 1000 };
      }),
    );
    expect(ends.filter(({ state }) => state !== 'shipped')).toEqual([]);
    expect(Math.max(...ends.map(({ seconds }) => seconds))).toBeLessThan(15);
    expect(await audit(db)).toEqual([]);
  }, 60_000);

  test('what is being tried, how often, and what went wrong is seen while it happens', async () => {
    const orders = Array.from({ length: 8 }, () => anOrder());
    await Promise.all(orders.map((order) => client.start.mutate(order)));
    const struggling = await eventually(async () => {
      const statuses = await Promise.all(orders.map(({ order_id }) => statusOf(order_id)));
      return statuses.find((status) => status.retries > 0);
    });
    expect(struggling).toMatchObject({ attempt: struggling.retries + 1, activity: struggling.recent_errors[0]?.step });
    expect(['Forced failure for testing', 'hung for 100 ms']).toContain(struggling.recent_errors[0]?.error);
    await Promise.all(orders.map(({ order_id }) => client.signal.cancel.mutate({ order_id })));
    await Promise.all(orders.map(({ order_id }) => closed(order_id, 20_000)));
  }, 60_000);

  test('a killed worker loses no order and charges or ships none twice', async () => {
    const orders = Array.from({ length: 20 }, () => anOrder());
    await Promise.all(orders.map((order) => client.start.mutate(order)));
    await sleep(800);
    await Promise.all(orders.map(({ order_id }) => client.signal.approve.mutate({ order_id })));
    // In the thick of it: some are being charged, some shipped.
    await eventually(async () => {
      const statuses = await Promise.all(orders.map(({ order_id }) => statusOf(order_id)));
      return statuses.some(({ step }) => step === 'shipping_child');
    });
    process.kill(stack.worker.pid, 'SIGKILL');
    await stack.worker.exited;
    await stack.startWorker('second-worker');
    const ends = await Promise.all(orders.map(({ order_id }) => closed(order_id, 60_000)));
    // One that could not make its deadline is refunded; none is lost.
    expect(ends.filter(({ state, reason }) => state !== 'shipped' && reason !== 'DEADLINE')).toEqual([]);
    expect(await audit(db)).toEqual([]);
  }, 120_000);
});
