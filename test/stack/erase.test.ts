/** What an erasure takes, what it leaves, and when; and what `npm run prune` does. Everything is looked at afterwards. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Connection } from '@temporalio/client';
import { MockActivityEnvironment } from '@temporalio/testing';
import { encryptionOf } from '@trellis/api/encryption';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { createHttpTemporal } from '@trellis/api/temporal/http';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import type { StartInput } from '@trellis/contracts/order';
import type { EncryptionConfig } from '@trellis/contracts/payload-codec';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import {
  ERASE_WORKFLOW,
  eraseWorkflowId,
  ORDER_WORKFLOW,
  ORDERS_QUEUE,
  orderWorkflowId,
  settleWorkflowId,
  shippingWorkflowId,
} from '@trellis/contracts/temporal';
import { createErasureStore } from '@trellis/drizzle/erasure';
import { createOrderKeyStore } from '@trellis/drizzle/order-keys';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { createEraseOrder } from '@trellis/workers/activities/erase-order';
import { createRuns } from '@trellis/workers/jobs/runs';
import { createServerClock } from '@trellis/workers/server-clock';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import { need } from '../servers.ts';
import { apiOn, openTestbed } from '../workflow-fixture.ts';

const { TEMPORAL_ADDRESS, TEMPORAL_HTTP_URL } = await need('temporal');
const { built } = await need('programs');

const ENCRYPTION: EncryptionConfig = {
  ENCRYPTION_KEYS: [`k1:${randomBytes(32).toString('base64url')}`],
  ENCRYPT: 'on',
};
const bed = await openTestbed({ clock: 'real', encryption: ENCRYPTION });
const namespace = bed.env.namespace ?? 'default';
const connection = Connection.lazy({ address: TEMPORAL_ADDRESS });
/** The database with every right, as prune has it. */
const owner = await createConnection(bed.databaseUrl);
afterAll(async () => {
  await Promise.all([connection.close(), owner.end()]);
  await bed.close();
});
// The money and the trail of every order, the erased ones too.
afterEach(async () => expect(await bed.violations()).toEqual([]));

const views = createOrderViews(bed.db);
const encryption = encryptionOf(ENCRYPTION, createOrderKeyStore(bed.db));
const client = createTemporalClient(connection, namespace, encryption);
const PORTS = {
  gRPC: createGrpcTemporal(client),
  HTTP: createHttpTemporal({ url: TEMPORAL_HTTP_URL, namespace, encryption }),
};
const [overGrpc, overHttp] = [PORTS.gRPC, PORTS.HTTP].map((port) =>
  apiOn(bed, port, { encryption, policy: 'production' }),
) as [Api, Api];
type Api = ReturnType<typeof apiOn>;

/** Is in every personal field of the orders of these tests, and nowhere else. */
const MARK = 'Zyxwvut';
const JANE = { line1: `1 ${MARK} Street`, city: 'Springfield', name: `Jane ${MARK}` };
const MOVED = { ...JANE, line1: `2 ${MARK} Lane` };
const REASON = `${MARK} moved away`;
const ANYBODY = { sub: 'anybody', via: 'auth-off' };

const bodyOf = async (answer: Promise<Response>) => (await answer).json() as Promise<Record<string, unknown>>;
const codeOf = async (answer: Promise<Response>) => {
  const { status } = await answer;
  const { code, state } = await bodyOf(answer);
  return { status, code, state };
};
const erase = (api: Api, id: string) => api.post(`/orders/${id}/erase`, {});

async function started(api = overGrpc, order: StartInput = anOrder({ address: JANE })): Promise<string> {
  const { order_id: id, ...body } = order;
  expect((await api.post(`/orders/${id}/start`, body)).status).toBe(200);
  await eventually(async () => (await views.find(id))?.state === 'awaiting_approval');
  return id;
}

const ended = (id: string) =>
  eventually(async () => {
    const row = await views.find(id);
    return row && isTerminal(row.state) && row.state;
  });

async function shipped(api = overGrpc): Promise<string> {
  const id = await started(api);
  expect(await bodyOf(api.post(`/orders/${id}/signals/address`, { address: MOVED }))).toMatchObject({ changed: true });
  await api.post(`/orders/${id}/signals/approve`, {});
  expect(await ended(id)).toBe('shipped');
  return id;
}

async function canceled(api = overGrpc, order?: StartInput): Promise<string> {
  const id = await started(api, order);
  await api.post(`/orders/${id}/signals/cancel`, { reason: REASON });
  expect(await ended(id)).toBe('canceled');
  return id;
}

/** Erases the order, and waits until that is done. */
async function erased(api: Api, id: string): Promise<void> {
  const answer = await erase(api, id);
  // Queued on a machine that takes longer than two seconds.
  expect([
    [200, { ok: true, state: (await views.find(id))?.state, changed: true }],
    [202, { ok: true, queued: true }],
  ]).toContainEqual([answer.status, await answer.json()]);
  await isErased(id);
}

const isErased = (id: string) => eventually(async () => (await views.find(id))?.erased_at);

/** The tables that hold the text in a row of the order. */
async function tablesWith(text: string, orderId: string): Promise<string[]> {
  const [tables] = await owner.query<RowDataPacket[]>('SHOW TABLES');
  const found: string[] = [];
  for (const table of tables.map((row) => `${Object.values(row)[0]}`)) {
    const [rows] = await owner.query<RowDataPacket[]>('SELECT * FROM ??', [table]);
    const ofOrder = rows.map((row) => JSON.stringify(row)).filter((row) => row.includes(orderId));
    if (ofOrder.some((row) => row.includes(text))) found.push(table);
  }
  return found;
}

/** The workflows of erased orders. Temporal deletes them some time later: the last test waits for all of them. */
const deleted: string[] = [];

/** Of these workflow ids, those that Temporal has. */
async function known(...ids: string[]): Promise<string[]> {
  const found = await Promise.all(
    ids.map((id) =>
      client.workflow
        .getHandle(id)
        .describe()
        .then(
          () => [id],
          () => [],
        ),
    ),
  );
  return found.flat();
}

/** A history with its payloads, as text. */
async function historyOf(workflowId: string): Promise<string> {
  const { events } = await client.workflow.getHandle(workflowId).fetchHistory();
  return JSON.stringify(events, (_, value) => {
    const bytes = value?.type === 'Buffer' ? value.data : value instanceof Uint8Array ? value : undefined;
    return bytes ? Buffer.from(bytes).toString() : value;
  });
}

describe.each(['gRPC', 'HTTP'] as const)('through the API over %s', (name) => {
  const api = name === 'gRPC' ? overGrpc : overHttp;

  test('a shipped order loses all that is personal, in SQL, at the carrier and in Temporal; money, trail and id stay', async () => {
    const id = await shipped(api);
    const before = await views.view(id);
    expect(await tablesWith(MARK, id)).toEqual(['orders', 'sandbox_parcels', 'shipments']);
    expect(await tablesWith(id, id)).toContain('order_keys');
    const workflows = [orderWorkflowId(id), shippingWorkflowId(id, 1)];
    expect(await known(...workflows)).toEqual(workflows);

    await erased(api, id);
    expect(await tablesWith(MARK, id)).toEqual([]);
    expect(await tablesWith(id, id)).not.toContain('order_keys');
    deleted.push(...workflows);
    expect(await historyOf(eraseWorkflowId(id))).not.toContain(MARK);

    const { payments, events, shipments, erased_at, ...view } = await bodyOf(api.get(`/orders/${id}`));
    expect(view).toMatchObject({ state: 'shipped', address: null, items: before?.items, amount: before?.amount });
    expect(view.updated_at).toBe(before?.updated_at);
    expect(erased_at).toEqual(expect.any(String));
    expect(payments).toEqual(before?.payments);
    expect(shipments).toMatchObject([{ status: 'dispatched', payload: { tracking: `TRK-${id}` } }]);
    expect((events as object[]).slice(0, -1)).toEqual(before?.events);
    expect((events as object[]).at(-1)).toMatchObject({ type: 'order_erased', actor: ANYBODY, payload: null });
    expect(await bodyOf(api.get(`/orders/${id}/status`))).toMatchObject({ state: 'shipped', step: 'done' });
    const { orders } = (await bodyOf(api.get('/orders'))) as { orders: { order_id: string }[] };
    expect(orders.map(({ order_id }) => order_id)).toContain(id);
  });

  test('a canceled order loses its reason; the status that was read before the erasure is not kept', async () => {
    const id = await canceled(api);
    expect(await bodyOf(api.get(`/orders/${id}/status`))).toMatchObject({ cancel_reason: REASON });
    await erased(api, id);
    // The API shows what is left in the events no more; prune takes it out of them.
    expect(await tablesWith(MARK, id)).toEqual(['events']);
    for (const path of ['', '/status'])
      expect(await (await api.get(`/orders/${id}${path}`)).text()).not.toContain(MARK);
    expect(await bodyOf(api.get(`/orders/${id}/status`))).toMatchObject({ canceled: true, cancel_reason: null });
  });

  test('an order that is open is left as it is: 409', async () => {
    const id = await started(api);
    const before = await views.find(id);
    expect(await codeOf(erase(api, id))).toEqual({ status: 409, code: 'TOO_EARLY', state: 'awaiting_approval' });
    const unrecorded = freshId();
    const workflowId = orderWorkflowId(unrecorded);
    const nobody = await client.workflow.start(ORDER_WORKFLOW, { workflowId, taskQueue: freshId('nobody') });
    expect(await codeOf(erase(api, unrecorded))).toEqual({ status: 409, code: 'TOO_EARLY', state: 'received' });
    await nobody.terminate();
    expect(await codeOf(erase(api, freshId()))).toMatchObject({ status: 404, code: 'NOT_FOUND' });
    expect(await views.find(id)).toEqual(before);
    expect(await known(eraseWorkflowId(id))).toEqual([]);
  });

  test('an order is erased once, however many ask for it at once and afterwards', async () => {
    const id = await canceled(api);
    const answers = await Promise.all(Array.from({ length: 20 }, () => erase(api, id)));
    expect(answers.filter(({ status }) => status !== 200 && status !== 202)).toEqual([]);
    await isErased(id);
    const { runId, historyLength } = await client.workflow.getHandle(eraseWorkflowId(id)).describe();
    expect(historyLength).toBeLessThan(20);
    for (const again of await Promise.all(Array.from({ length: 20 }, () => erase(api, id))))
      expect([again.status, await again.json()]).toEqual([200, { ok: true, state: 'canceled', changed: false }]);
    expect((await views.view(id))?.events.filter(({ type }) => type === 'order_erased')).toHaveLength(1);
    // The later ones were answered from SQL.
    expect((await client.workflow.getHandle(eraseWorkflowId(id)).describe()).runId).toBe(runId);
  });
});

test('commands on an erased order are answered as on any that has ended, and its id is never used again', async () => {
  const order = anOrder({ address: JANE });
  const id = await started(overGrpc, order);
  await overGrpc.post(`/orders/${id}/signals/cancel`, { reason: REASON });
  await ended(id);
  await erased(overGrpc, id);
  const command = (path: string, body: object) => overGrpc.post(`/orders/${id}/signals/${path}`, body);
  expect(await bodyOf(command('cancel', {}))).toEqual({ ok: true, state: 'canceled', changed: false });
  for (const refused of [command('approve', {}), command('address', { address: MOVED })])
    expect(await codeOf(refused)).toEqual({ status: 409, code: 'TOO_LATE', state: 'canceled' });
  // Even the same request: what could recognise it would confirm a guess at the address.
  const { order_id: _, ...body } = order;
  expect(await codeOf(overGrpc.post(`/orders/${id}/start`, body))).toMatchObject({
    status: 409,
    code: 'ORDER_CONFLICT',
  });
  deleted.push(orderWorkflowId(id));
});

describe('a caller of Temporal', () => {
  const run = (...args: unknown[]) =>
    client.workflow.execute(ERASE_WORKFLOW, { workflowId: freshId('erase-by'), taskQueue: ORDERS_QUEUE, args });

  test('erases no order that is open, and is recorded as the one who erased another', async () => {
    const [open, closed] = await Promise.all([started(), canceled()]);
    const before = await views.find(open);
    expect(await run({ order_id: open })).toBe('awaiting_approval');
    expect(await views.find(open)).toEqual(before);
    expect(await known(orderWorkflowId(open))).toEqual([orderWorkflowId(open)]);
    expect(await run({ order_id: closed })).toBe('canceled');
    const { events = [] } = (await views.view(closed)) ?? {};
    expect(events.at(-1)).toMatchObject({ type: 'order_erased', actor: { sub: 'unknown', via: 'temporal' } });
  });

  test.each([
    [[]],
    [[null]],
    [[{}]],
    [[{ order_id: 7 }]],
    [[{ order_id: '../x' }]],
    [[{ order_id: 'no-such-order' }]],
  ])('that sends %j erases nothing', async (args) => expect(await run(...args)).toBeUndefined());
});

test('of an order whose workflow has an id of its caller’s own that workflow is deleted, and no other order’s', async () => {
  const [order, other] = [anOrder({ address: JANE }), anOrder({ address: JANE })];
  const workflowId = `it's "${freshId('own')}" \\ `;
  const start = (id: string, args: object) =>
    client.workflow.start(ORDER_WORKFLOW, { workflowId: id, taskQueue: ORDERS_QUEUE, args: [args] });
  const own = await start(workflowId, { ...order, policy: 'production' });
  // Another order's run has the id that this order's would have.
  const running = await start(orderWorkflowId(order.order_id), { ...other, policy: 'production' });
  await eventually(async () => (await views.find(other.order_id))?.state === 'awaiting_approval');
  await own.signal('cancel_order', REASON);
  expect(await own.result()).toBe('canceled');
  await erased(overGrpc, order.order_id);
  deleted.push(workflowId);
  expect((await running.describe()).status.name).toBe('RUNNING');
  await running.signal('approve');
  expect(await ended(other.order_id)).toBe('shipped');
});

describe('an order that has ended while its run has not', () => {
  /** Its run has no worker. */
  async function unfinished() {
    const order = anOrder({ address: JANE });
    const workflow_id = orderWorkflowId(order.order_id);
    const run = await client.workflow.start(ORDER_WORKFLOW, { workflowId: workflow_id, taskQueue: freshId('nobody') });
    const orders = createOrderStore(bed.db);
    await orders.receive(order, { workflow_id, run_id: run.firstExecutionRunId }, null);
    const progress = { approved: false, child_attempts: 0, last_error: null, dispatch_failed_reason: null };
    await orders.end(order.order_id, { state: 'expired' }, { ...progress, step: 'awaiting_approval' });
    return { id: order.order_id, run };
  }

  /** One attempt of the activity, which Temporal scheduled so many milliseconds ago. */
  const attemptAt = (id: string, age: number, forget = async () => {}) => {
    const deps = {
      ...createRuns(client),
      erasure: createErasureStore(bed.db),
      carrier: { forget } as never,
      clock: createServerClock(),
      onFailedAttempt: () => {},
    };
    const info = { activityType: 'erase_order', workflowType: ERASE_WORKFLOW, attempt: 4 };
    const times = { scheduledTimestampMs: Date.now() - age, currentAttemptScheduledTimestampMs: Date.now() };
    const environment = new MockActivityEnvironment({ ...info, ...times });
    return environment.run(createEraseOrder(deps), { order_id: id, actor: ANYBODY });
  };

  test('is erased once that has ended', async () => {
    const { id, run } = await unfinished();
    expect((await erase(overGrpc, id)).status).toBe(202);
    expect(await views.find(id)).toMatchObject({ address: JANE, erased_at: null });
    expect((await run.describe()).status.name).toBe('RUNNING');
    await run.terminate();
    await isErased(id);
    deleted.push(run.workflowId);
    expect(await tablesWith(MARK, id)).toEqual([]);
  });

  test('is erased after a minute at the latest, and its run is then terminated', async () => {
    const { id, run } = await unfinished();
    await expect(attemptAt(id, 50_000)).rejects.toThrow('has not ended yet');
    expect((await run.describe()).status.name).toBe('RUNNING');
    expect(await attemptAt(id, 61_000)).toBe('expired');
    deleted.push(run.workflowId);
    expect(await tablesWith(MARK, id)).toEqual([]);
  });

  test('is not marked as erased before all is done, and the next call makes up for what is missing', async () => {
    const { id, run } = await unfinished();
    await run.terminate();
    const fails = () => Promise.reject(new Error('the carrier does not answer'));
    await expect(attemptAt(id, 0, fails)).rejects.toThrow('does not answer');
    deleted.push(run.workflowId);
    expect(await views.find(id)).toMatchObject({ address: JANE, erased_at: null });
    await erased(overHttp, id);
    expect(await tablesWith(MARK, id)).toEqual([]);
  });
});

test('earlier runs, later shipping attempts and settlings of an order are deleted, too', async () => {
  const id = await shipped();
  const foreign = { taskQueue: freshId('nobody') };
  // No such workflows belong to this order's row: they stand for attempts and settlings that a run left behind.
  for (const workflowId of [settleWorkflowId(id), shippingWorkflowId(id, 2)])
    for (const _ of [1, 2]) await (await client.workflow.start(ORDER_WORKFLOW, { workflowId, ...foreign })).terminate();
  const ids = [settleWorkflowId(id), shippingWorkflowId(id, 1), shippingWorkflowId(id, 2)];
  const query = `WorkflowId IN (${ids.map((one) => `'${one}'`).join(', ')})`;
  async function listed(): Promise<number> {
    let runs = 0;
    for await (const _ of client.workflow.list({ query })) runs += 1;
    return runs;
  }
  await eventually(async () => (await listed()) === 5);
  await erased(overGrpc, id);
  deleted.push(...ids);
});

describe('npm run prune', () => {
  async function prune(...args: string[]) {
    const env = {
      PATH: process.env.PATH,
      DATABASE_URL: bed.databaseUrl,
      TEMPORAL_ADDRESS,
      TEMPORAL_NAMESPACE: namespace,
    };
    const child = spawn(process.execPath, [join(built, 'prune.js'), ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
    return { code, stderr, counts: [...stdout.matchAll(/: (\d+) (done|to do)$/gm)].map(([, count]) => Number(count)) };
  }

  /** Moves the order's end into the past. */
  const age = (id: string, days: number) =>
    owner.query('UPDATE orders SET updated_at = updated_at - INTERVAL ? DAY WHERE id = ?', [days, id]);

  const attempt = (id: string, days: number) =>
    owner.query(
      "INSERT INTO attempts (order_id, step, attempt, error, ts) VALUES (?, 'x', 1, ?, NOW() - INTERVAL ? DAY)",
      [id, MARK, days],
    );

  test('erases what is older than its class is kept, leaves what is younger, and can be run again', async () => {
    // What other tests have left in the events.
    await prune();
    const other = anOrder({ address: JANE });
    // As versions up to 0.5 wrote it, before the order's first event with a hash.
    await owner.query(
      "INSERT INTO events (order_id, type, dedupe_key, payload_json) VALUES (?, 'address_updated', 'address_updated:1', ?)",
      [other.order_id, JSON.stringify({ id: '1', address: JANE })],
    );
    const [old, young, open] = await Promise.all([canceled(), canceled(overGrpc, other), started()]);
    await Promise.all([age(old, 91), age(young, 89), age(open, 91)]);
    await Promise.all([attempt(open, 8), attempt(open, 6)]);
    const rows = () => Promise.all([old, young, open].map((id) => views.view(id)));
    const before = await rows();

    expect(await prune('--dry-run')).toEqual({ code: 0, stderr: '', counts: [1, 1, 1] });
    expect(await rows()).toEqual(before);
    // The events of the erased order, and the old address.
    expect(await prune()).toEqual({ code: 0, stderr: '', counts: [1, 1, 2] });
    expect(await tablesWith(MARK, old)).toEqual([]);
    deleted.push(orderWorkflowId(old));
    const [{ events: ofOld = [] } = {}, ofYoung, ofOpen] = await rows();
    expect(ofOld.at(-1)).toMatchObject({ type: 'order_erased', actor: { sub: 'prune', via: 'worker' } });
    expect(ofYoung).toMatchObject({ erased_at: null, address: JANE, reason: REASON });
    expect(ofYoung?.events[0]).toMatchObject({ type: 'address_updated', payload: { id: '1' } });
    expect(JSON.stringify(ofYoung?.events[0])).not.toContain(MARK);
    expect(ofOpen).toMatchObject({ erased_at: null, address: JANE });
    expect((await views.status(open, 5)).recent.errors).toHaveLength(1);
    expect(await prune()).toEqual({ code: 0, stderr: '', counts: [0, 0, 0] });
    expect(await prune('--personal-days=88')).toMatchObject({ code: 0, counts: [0, 1, 1] });
    expect(await tablesWith(MARK, young)).toEqual([]);
  });

  test.each(['--personal-days=0', '--personal-days=x', '--personal-days'])('refuses %s', async (option) => {
    expect(await prune(option)).toMatchObject({ code: 2, counts: [] });
  });
});

test('Temporal has nothing left of the erased orders, soon', async () => {
  expect(deleted.length).toBeGreaterThan(10);
  await eventually(async () => (await known(...deleted)).length === 0, 60_000, 200);
  const query = `WorkflowId IN (${deleted.map((id) => `'${id.replace(/[\\']/g, '\\$&')}'`).join(', ')})`;
  await eventually(async () => {
    for await (const _ of client.workflow.list({ query })) return false;
    return true;
  });
}, 90_000);
