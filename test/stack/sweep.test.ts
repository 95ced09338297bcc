/** The sweep ends every order that no run is going to end, whatever stands beside it, and no other order. */
import { Client } from '@temporalio/client';
import type { PolicyName } from '@trellis/contracts/policy';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { ORDER_WORKFLOW, orderWorkflowId, STATUS_QUERY } from '@trellis/contracts/temporal';
import { createOpenOrders } from '@trellis/drizzle/open-orders';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { audit } from '@trellis/drizzle/sandbox/audit';
import { sweep } from '@trellis/workers/jobs/sweep';
import { sql } from 'drizzle-orm';
import { afterAll, expect, test } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import { hangs, log, openTestbed, type PlacedOrder, type PlaceOptions } from '../workflow-fixture.ts';

const bed = await openTestbed({ clock: 'real' });
const { workflowService } = bed.env.connection;
const namespace = bed.env.namespace ?? '';
const views = createOrderViews(bed.db);

const orderUnder = (policy: PolicyName = 'production') => ({ ...anOrder(), policy });

/** An order that is charged and hangs in shipping, for as long as its policy allows: on a loaded machine the exercise's may be over before. */
async function paid(options: PlaceOptions = {}) {
  const order = await bed.placeApproved(orderUnder(), { faults: { dispatch: hangs }, ...options });
  await eventually(async () => (await views.find(order.id))?.state === 'shipping');
  return order;
}

/** Moves an order's row into the past. */
const age = ({ id }: { id: string }, minutes: number) =>
  bed.db.run((session) =>
    session.execute(sql`
      UPDATE orders SET created_at = created_at - INTERVAL ${minutes} MINUTE,
        updated_at = updated_at - INTERVAL ${minutes} MINUTE WHERE id = ${id}`),
  );

async function forget({ handle }: PlacedOrder): Promise<void> {
  const { workflowId } = handle;
  await workflowService.deleteWorkflowExecution({ namespace, workflowExecution: { workflowId } });
  await eventually(() =>
    handle.describe().then(
      () => false,
      () => true,
    ),
  );
}

/** The run in which a reset order goes on, as one that continues as new does. */
async function reset({ handle }: PlacedOrder) {
  const { runId } = await workflowService.resetWorkflowExecution({
    namespace,
    workflowExecution: { workflowId: handle.workflowId },
    workflowTaskFinishEventId: 4 as never,
    requestId: freshId(),
  });
  const second = bed.env.client.workflow.getHandle(handle.workflowId, runId);
  // Without a workflow task it could answer no query after its end, and the sweep would wait a minute for that.
  await second.query(STATUS_QUERY);
  return second;
}

/** The run of an order that no worker executes, whose workflow task a caller of Temporal has failed `times` times. */
async function wedged(times: number, { hasRow = true, policy }: { hasRow?: boolean; policy?: PolicyName } = {}) {
  const order = orderUnder(policy);
  const workflow_id = orderWorkflowId(order.order_id);
  const taskQueue = freshId('wedged');
  const handle = await bed.env.client.workflow.start(ORDER_WORKFLOW, { workflowId: workflow_id, taskQueue });
  const run = { workflow_id, run_id: handle.firstExecutionRunId };
  if (hasRow) await createOrderStore(bed.db).receive(order, run, null);
  for (let failed = 0; failed < times; failed += 1) {
    const { taskToken } = await bed.realTimeClient.withDeadline(Date.now() + 30_000, () =>
      workflowService.pollWorkflowTaskQueue({ namespace, taskQueue: { name: taskQueue } }),
    );
    await workflowService.respondWorkflowTaskFailed({ namespace, taskToken, cause: 1 });
  }
  return { id: order.order_id, handle };
}

// A run whose id can't be an order's.
for (const workflowId of ['order-größe-1', `order-${'x'.repeat(65)}`]) {
  const foreign = await bed.env.client.workflow.start(ORDER_WORKFLOW, { workflowId, taskQueue: freshId('nobody') });
  await foreign.terminate();
}
/** A client of a caller who encrypts the memos with this text. */
const SEALED = 'sealed';
const sealing = new Client({
  connection: bed.env.connection,
  namespace,
  dataConverter: {
    payloadCodecs: [
      {
        encode: async (payloads) =>
          payloads.map((payload) =>
            `${payload.data}`.includes(SEALED)
              ? { ...payload, metadata: { encoding: Buffer.from('binary/encrypted') } }
              : payload,
          ),
        decode: async (payloads) => payloads,
      },
    ],
  },
});
const [terminated, continued, sealed, unreadable, renamed, lost, lostInTime, healthy] = await Promise.all([
  paid(),
  paid(),
  paid({ client: sealing, memo: { note: Buffer.from(SEALED) } }),
  paid(),
  paid({ workflowId: freshId('shop-7') }),
  paid(),
  paid(),
  paid(),
]);
const [failing, failingExercise, failingInTime, rowless] = await Promise.all([
  wedged(5),
  wedged(5, { policy: 'exercise' }),
  wedged(5),
  wedged(6, { hasRow: false }),
]);
await (await reset(continued)).terminate();
await Promise.all([terminated, sealed, unreadable, renamed].map(({ handle }) => handle.terminate()));
await Promise.all([lost, lostInTime].map(forget));
// Past both policies, past the exercise's alone.
await Promise.all([renamed, lost, failing].map((order) => age(order, 31 * 60)));
await Promise.all([lostInTime, healthy, failingExercise, failingInTime].map((order) => age(order, 10)));

const warnings: { fields: object; message: string }[] = [];
const warn = (fields: object, message: string) => void warnings.push({ fields, message });
const over = new AbortController();
const sweeping = sweep({
  client: bed.realTimeClient,
  views: {
    find: (id) => (id === unreadable.id ? Promise.reject(new Error('unreadable')) : views.find(id)),
  },
  openOrders: createOpenOrders(bed.db),
  log: Object.assign(Object.create(log), { warn }),
  signal: over.signal,
});
afterAll(async () => {
  over.abort();
  await sweeping;
  await bed.close();
});

const rowOf = ({ id }: { id: string }) => views.find(id);
const ended = (order: { id: string }) =>
  eventually(async () => {
    const row = await rowOf(order);
    return row && isTerminal(row.state) && row;
  }, 30_000);

test.each([
  ['a run that was terminated, though a run beside it has an id that no order can have', terminated],
  ['a run with a memo that its caller encrypted, which was terminated', sealed],
  ['a run that went on in a second one, which was terminated', continued],
  ['a run that was started under an id of the caller’s own, and terminated', renamed],
  ['a run that Temporal has forgotten, once the order is past all its policy allows', lost],
])('of %s, the order is settled and its charge refunded', async (_, order) => {
  expect(await ended(order)).toMatchObject({ state: 'failed', reason: 'DEADLINE' });
  expect(await bed.books(order.id)).toMatchObject({ charges: ['refunded'] });
});

test('a run whose workflow tasks keep failing is reported, and terminated and settled once the order is overdue', async () => {
  for (const order of [failing, failingExercise]) {
    expect(await ended(order)).toMatchObject({ state: 'failed' });
    expect((await order.handle.describe()).status.name).toBe('TERMINATED');
  }
  expect((await failingInTime.handle.describe()).status.name).toBe('RUNNING');
  for (const { id } of [failing, failingExercise, failingInTime])
    expect(warnings).toContainEqual({
      fields: expect.objectContaining({ order_id: id, attempts: expect.any(Number) }),
      message: expect.stringContaining('workflow task'),
    });
});

test('a run without a row whose workflow tasks keep failing is reported', async () => {
  await eventually(
    async () =>
      warnings.some(
        ({ fields, message }) =>
          'order_id' in fields && fields.order_id === rowless.id && message.includes('workflow task'),
      ),
    30_000,
  );
  expect((await rowless.handle.describe()).status.name).toBe('RUNNING');
});

test('an order is left alone while its run goes on, or its time is not over', async () => {
  await Promise.all([terminated, renamed, lost, failing].map(ended));
  const left = await Promise.all([unreadable, lostInTime, healthy, failingInTime].map(rowOf));
  expect(left.map((row) => row?.state)).toEqual(['shipping', 'shipping', 'shipping', 'received']);
  expect(warnings).toContainEqual({
    fields: expect.objectContaining({ order_id: lostInTime.id, orders: 1 }),
    message: expect.stringContaining('TEMPORAL_NAMESPACE'),
  });
  expect(await audit(bed.db)).toEqual([]);
});

test('a run that ends while the sweep runs is found by a later look', async () => {
  await ended(terminated);
  await healthy.handle.terminate();
  expect(await ended(healthy)).toMatchObject({ state: 'failed' });
});
