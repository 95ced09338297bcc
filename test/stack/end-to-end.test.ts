/** A whole stack as `npm start` starts it, with fault injection, in processes of its own. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import { createOrdersClient } from '@trellis/client';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { ORDER_WORKFLOW, ORDERS_QUEUE, orderWorkflowId } from '@trellis/contracts/temporal';
import { openDatabase } from '@trellis/drizzle/client';
import type { Database } from '@trellis/drizzle/database';
import { audit } from '@trellis/drizzle/sandbox/audit';
import { throwAwayFolder } from '@trellis/local/stack/folder';
import type { Service } from '@trellis/local/stack/processes';
import { type Stack, startStack } from '@trellis/local/stack/stack';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';

describe('under flaky_call', () => {
  const silent = () => {};
  let stack: Stack;
  /** The worker that runs now. */
  let worker: Service;
  let db: Database;
  let client: ReturnType<typeof createOrdersClient>;
  let remove: () => Promise<void>;

  beforeAll(async () => {
    const place = await throwAwayFolder(silent);
    remove = place.remove;
    stack = await startStack({ folder: place.folder, persistent: false, env: { FLAKY_CALL: 'on' }, say: silent });
    worker = stack.worker;
    db = openDatabase(stack.addresses.DATABASE_URL);
    client = createOrdersClient(stack.addresses.API_URL);
  });

  afterAll(async () => {
    await db.close();
    await stack.stop();
    await remove();
  });

  const statusOf = (order_id: string) => client.status.query({ order_id });

  /** Polls rarely, and only SQL, so that polling does not slow the orders down. */
  const ended = (order_id: string, within: number) =>
    eventually(
      async () => {
        const order = await client.get.query({ order_id }).catch(() => undefined);
        return order && isTerminal(order.state) && order;
      },
      within,
      250,
    );

  test('forty concurrent orders ship within fifteen seconds, each charged once', async () => {
    const orders = Array.from({ length: 40 }, () => anOrder());
    const ends = await Promise.all(
      orders.map(async (order) => {
        const began = performance.now();
        await client.start.mutate(order);
        await sleep(800);
        await client.signal.approve.mutate({ order_id: order.order_id });
        const { state } = await ended(order.order_id, 30_000);
        return { state, seconds: (performance.now() - began) / 1000 };
      }),
    );
    expect(ends.filter(({ state }) => state !== 'shipped')).toEqual([]);
    expect(Math.max(...ends.map(({ seconds }) => seconds))).toBeLessThan(15);
    expect(await audit(db)).toEqual([]);
  }, 60_000);

  test('orders whose runs are terminated or timed out by a caller are settled by the sweep', async () => {
    const connection = await Connection.connect({ address: stack.addresses.TEMPORAL_ADDRESS });
    const temporal = createTemporalClient(connection);
    const orders = Array.from({ length: 12 }, () => anOrder());
    await Promise.all(orders.map((order) => client.start.mutate(order)));
    await sleep(500);
    // Each order at another moment of its run.
    await Promise.all(
      orders.map(async ({ order_id }, n) => {
        await client.signal.approve.mutate({ order_id });
        await sleep(n * 120);
        await temporal.workflow.getHandle(orderWorkflowId(order_id)).terminate().catch(alreadyCompleted);
      }),
    );
    const hurried = anOrder();
    await temporal.workflow.start(ORDER_WORKFLOW, {
      workflowId: orderWorkflowId(hurried.order_id),
      taskQueue: ORDERS_QUEUE,
      args: [hurried],
      workflowRunTimeout: '1.5s',
    });
    const recorded = (order_id: string) => client.get.query({ order_id }).catch(() => undefined);
    const rows = await eventually(async () => {
      const found = await Promise.all([...orders, hurried].map(({ order_id }) => recorded(order_id)));
      // A run that was terminated before it wrote its row leaves nothing to settle.
      return found.every((order) => !order || isTerminal(order.state)) && found.filter((order) => order !== undefined);
    }, 60_000);
    expect(rows.filter(({ state }) => state !== 'shipped' && state !== 'failed')).toEqual([]);
    expect(rows.filter(({ reason }) => reason === 'DEADLINE')).not.toEqual([]);
    expect(await audit(db)).toEqual([]);
    await connection.close();
  }, 120_000);

  test('without a worker an order is accepted, has a status, and its commands are kept', async () => {
    await worker.stop();
    const order = anOrder();
    const { order_id } = order;
    await client.start.mutate(order);
    expect(await statusOf(order_id)).toMatchObject({ state: 'received', step: 'init', source: 'temporal' });
    expect(await client.signal.approve.mutate({ order_id })).toEqual({ ok: true, queued: true });
    worker = await stack.startWorker('late-worker');
    expect(await ended(order_id, 20_000)).toMatchObject({ state: 'shipped' });
  }, 60_000);

  test('a killed worker loses no order and charges or ships none twice', async () => {
    const orders = Array.from({ length: 20 }, () => anOrder());
    await Promise.all(orders.map((order) => client.start.mutate(order)));
    await sleep(800);
    await Promise.all(orders.map(({ order_id }) => client.signal.approve.mutate({ order_id })));
    // By then some orders are being charged and some shipped.
    await eventually(async () => {
      const statuses = await Promise.all(orders.map(({ order_id }) => statusOf(order_id)));
      return statuses.some(({ step }) => step === 'shipping_child');
    });
    process.kill(worker.pid, 'SIGKILL');
    await worker.exited;
    worker = await stack.startWorker('second-worker');
    const ends = await Promise.all(orders.map(({ order_id }) => ended(order_id, 60_000)));
    // An order that missed its deadline is refunded; none is lost.
    expect(ends.filter(({ state, reason }) => state !== 'shipped' && reason !== 'DEADLINE')).toEqual([]);
    expect(await audit(db)).toEqual([]);
  }, 120_000);
});

/** A run may complete before it is terminated. */
function alreadyCompleted(error: unknown): void {
  if (!(error instanceof WorkflowNotFoundError)) throw error;
}
