/** With ENCRYPT=on Temporal stores nothing personal in clear, and no order fails for want of a key. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { encryptionOf } from '@trellis/api/encryption';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { createHttpTemporal } from '@trellis/api/temporal/http';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import type { StartInput } from '@trellis/contracts/order';
import { createEncryption, type Encryption, type EncryptionConfig } from '@trellis/contracts/payload-codec';
import { requestHash } from '@trellis/contracts/request-hash';
import { orderWorkflowId, settleWorkflowId, shippingWorkflowId } from '@trellis/contracts/temporal';
import { openDatabase } from '@trellis/drizzle/client';
import { createOpenOrders } from '@trellis/drizzle/open-orders';
import { createOrderKeyStore } from '@trellis/drizzle/order-keys';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { orderKeys } from '@trellis/drizzle/schema';
import { sweep } from '@trellis/workers/jobs/sweep';
import { eq } from 'drizzle-orm';
import { createConnection } from 'mysql2/promise';
import { afterAll, afterEach, describe, expect, onTestFinished, test } from 'vitest';
import { anOrder, eventually, overGateway } from '../fixtures.ts';
import { need } from '../servers.ts';
import { bundleWorker, startWorkerd } from '../trials/workerd.ts';
import { apiOn, type Fault, hangs, log, openTestbed, ownTestbed, type Testbed } from '../workflow-fixture.ts';

const { TEMPORAL_ADDRESS, TEMPORAL_HTTP_URL } = await need('temporal');

const newKey = (id: string) => `${id}:${randomBytes(32).toString('base64url')}`;
const KEY = newKey('k1');
const ON: EncryptionConfig = { ENCRYPTION_KEYS: [KEY], ENCRYPT: 'on' };
const OFF: EncryptionConfig = { ENCRYPT: 'off' };

const JANE = { line1: '88 Private Ave', city: 'Springfield', name: 'Jane Q Doe' };
const MOVED = { line1: '9 Hidden Lane', city: 'Shelbyville', name: 'Jane Q Doe' };
const REASON = 'Jane moved, call +1 555 0100';
const PERSONAL = [...Object.values(JANE), ...Object.values(MOVED), REASON];

const bed = await openTestbed({ clock: 'real', encryption: ON });
afterAll(() => bed.close());
afterEach(async () => expect(await bed.violations()).toEqual([]));

const namespaceOf = ({ env }: Testbed) => env.namespace ?? 'default';
const connection = Connection.lazy({ address: TEMPORAL_ADDRESS });
afterAll(() => connection.close());

const encryptionOn = ({ db }: Testbed, config: EncryptionConfig) => encryptionOf(config, createOrderKeyStore(db));
const clientOn = (on: Testbed, config: EncryptionConfig) =>
  createTemporalClient(connection, namespaceOf(on), encryptionOn(on, config));

const folder = await mkdtemp(join(tmpdir(), 'encryption-'));
afterAll(() => rm(folder, { recursive: true }));
const bundle = bundleWorker(folder);

const overHttp = (on: Testbed, encryption: Encryption | undefined) =>
  createHttpTemporal({ url: TEMPORAL_HTTP_URL, namespace: namespaceOf(on), encryption });

type Api = Pick<ReturnType<typeof apiOn>, 'get' | 'post'>;

/** The API on a testbed, in each way that it can run. */
const APIS: Record<string, (on: Testbed, config: EncryptionConfig) => Api | Promise<Api>> = {
  'Node over gRPC': (on, config) => {
    const encryption = encryptionOn(on, config);
    return apiOn(on, createGrpcTemporal(createTemporalClient(connection, namespaceOf(on), encryption)), { encryption });
  },
  'Node over HTTP': (on, config) => {
    const encryption = encryptionOn(on, config);
    return apiOn(on, overHttp(on, encryption), { encryption });
  },
  'the edge runtime': async (on, { ENCRYPTION_KEYS = [], ENCRYPT }) => {
    const worker = await startWorkerd(await bundle, {
      AUTH: 'off',
      DATABASE_URL: await overGateway(on.databaseUrl),
      TEMPORAL_ADDRESS: TEMPORAL_HTTP_URL,
      TEMPORAL_NAMESPACE: namespaceOf(on),
      ENCRYPTION_KEYS: ENCRYPTION_KEYS.join(','),
      ENCRYPT,
    });
    onTestFinished(worker.stop);
    const headers = { 'content-type': 'application/json' };
    return {
      get: (path) => fetch(`${worker.url}${path}`),
      post: (path, body) => fetch(`${worker.url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) }),
    };
  },
};
const overGrpc = (on: Testbed, config: EncryptionConfig) => APIS['Node over gRPC']?.(on, config) as Api;

const bodyOf = async (answer: Promise<Response>) => (await answer).json() as Promise<Record<string, unknown>>;
const statusOf = (api: Api, id: string) => bodyOf(api.get(`/orders/${id}/status`));
const stepOf = async (api: Api, id: string) => (await statusOf(api, id)).step;
const stateOf = async (api: Api, id: string) => (await bodyOf(api.get(`/orders/${id}`))).state;

async function startAt(api: Api, order: StartInput): Promise<string> {
  const { order_id, ...body } = order;
  expect((await api.post(`/orders/${order_id}/start`, body)).status).toBe(200);
  return order_id;
}

interface Found {
  at: string;
  encoding: string;
  text: string;
}

/** Every text of the workflow's history, and every payload, as whoever has Temporal alone reads them. */
async function stored(on: Testbed, workflowId: string): Promise<Found[]> {
  const { events } = await createTemporalClient(connection, namespaceOf(on))
    .workflow.getHandle(workflowId)
    .fetchHistory();
  const found: Found[] = [];
  const visit = (value: unknown, at: string) => {
    if (typeof value === 'string') found.push({ at, encoding: '', text: value });
    if (typeof value !== 'object' || value === null) return;
    const { metadata, data } = value as { metadata?: { encoding?: Uint8Array }; data?: Uint8Array };
    if (metadata?.encoding) {
      const encoding = Buffer.from(metadata.encoding).toString();
      found.push({ at, encoding, text: Buffer.from(data ?? []).toString() });
    } else if (!ArrayBuffer.isView(value))
      for (const [key, inner] of Object.entries(value)) visit(inner, `${at}.${key}`);
  };
  for (const [n, event] of (events ?? []).entries()) visit(event, `${n}`);
  return found;
}

const inClear = (found: Found[]) =>
  found.filter(({ text }) => PERSONAL.some((personal) => text.includes(personal))).map(({ at }) => at);

/** Besides what is encrypted: the memo, the notes of the SDK in its own markers, and the request's hash. */
const readable = (found: Found[]) =>
  found.filter(
    ({ at, encoding }) =>
      encoding !== '' &&
      encoding !== 'binary/encrypted' &&
      !/memo\.fields|searchAttributes|markerRecordedEventAttributes\.details\.(data|patch-data)\./.test(at),
  );

const keyRow = async ({ db }: Testbed, orderId: string) =>
  (await db.run((session) => session.select().from(orderKeys).where(eq(orderKeys.order_id, orderId))))[0];

describe.each(Object.keys(APIS))('through %s', (name) => {
  const open = async () => (await APIS[name]?.(bed, ON)) as Api;

  test('an order lives and ships, and its histories hold nothing personal in clear', async () => {
    const api = await open();
    const order = anOrder({ address: JANE });
    const id = await startAt(api, order);
    await eventually(async () => (await stepOf(api, id)) === 'awaiting_approval');
    expect(await bodyOf(api.post(`/orders/${id}/signals/address`, { address: MOVED }))).toMatchObject({
      changed: true,
    });
    expect(await bodyOf(api.post(`/orders/${id}/signals/approve`, {}))).toMatchObject({ ok: true, changed: true });
    await eventually(async () => (await stateOf(api, id)) === 'shipped');
    expect(await bodyOf(api.get(`/orders/${id}`))).toMatchObject({ state: 'shipped', address: MOVED });

    const [ordered, shipped] = await Promise.all([
      stored(bed, orderWorkflowId(id)),
      stored(bed, shippingWorkflowId(id, 1)),
    ]);
    expect([inClear(ordered), inClear(shipped)]).toEqual([[], []]);
    expect([readable(ordered), readable(shipped)]).toEqual([[], []]);
    expect(ordered.filter(({ encoding }) => encoding === 'binary/encrypted').length).toBeGreaterThan(10);
    // The whole life is there for whoever has the key.
    const { workflow } = clientOn(bed, ON);
    expect(await workflow.getHandle(orderWorkflowId(id)).result()).toBe('shipped');
  });

  test('a cancel’s reason and a refusal’s details are encrypted, and read by the API', async () => {
    const api = await open();
    const id = await startAt(api, anOrder({ address: JANE }));
    await eventually(async () => (await stepOf(api, id)) === 'awaiting_approval');
    const invalid = await bodyOf(api.post(`/orders/${id}/signals/cancel`, { reason: REASON }));
    expect(invalid).toMatchObject({ ok: true, changed: true });
    expect(await statusOf(api, id)).toMatchObject({ canceled: true, cancel_reason: REASON });
    await eventually(async () => (await stateOf(api, id)) === 'canceled');
    expect(await bodyOf(api.post(`/orders/${id}/signals/approve`, {}))).toMatchObject({
      code: 'TOO_LATE',
      // Of the closed order, or of the workflow that is about to close it.
      state: expect.stringMatching(/^(awaiting_approval|canceled)$/),
    });
    expect(inClear(await stored(bed, orderWorkflowId(id)))).toEqual([]);
  });

  test('the same request again gets its run, and another one a conflict; its hash is keyed, in SQL and in the memo', async () => {
    const api = await open();
    const order = anOrder({ address: JANE });
    const { order_id: id, ...body } = order;
    const first = await bodyOf(api.post(`/orders/${id}/start`, body));
    expect(await bodyOf(api.post(`/orders/${id}/start`, body))).toEqual(first);
    await eventually(async () => (await stepOf(api, id)) === 'awaiting_approval');
    expect(await bodyOf(api.post(`/orders/${id}/start`, body))).toEqual(first);
    expect(await bodyOf(api.post(`/orders/${id}/start`, { ...body, address: MOVED }))).toMatchObject({
      code: 'ORDER_CONFLICT',
    });
    const memo = (await stored(bed, orderWorkflowId(id))).find(({ at }) => at.includes('memo.fields'));
    const plain = await requestHash(order);
    expect(memo?.text).toMatch(/^"[0-9a-f]{64}"$/);
    expect(memo?.text).not.toContain(plain);
    const { workflow } = clientOn(bed, ON);
    const run = await workflow.getHandle(orderWorkflowId(id)).describe();
    expect(run.memo?.request_hash).toBe(JSON.parse(memo?.text ?? ''));
    await api.post(`/orders/${id}/signals/cancel`, {});
    await eventually(async () => (await stateOf(api, id)) === 'canceled');
  });
});

test('the carrier’s words, which may quote the address, are in no failure’s text', async () => {
  const api = overGrpc(bed, ON);
  const id = await startAt(api, anOrder({ address: { ...JANE, city: 'Unreachable' } }));
  await api.post(`/orders/${id}/signals/approve`, {});
  await eventually(async () => `${(await statusOf(api, id)).dispatch_failed_reason}`.includes('Unreachable'));
  await api.post(`/orders/${id}/signals/cancel`, {});
  await eventually(async () => (await stateOf(api, id)) === 'canceled');
  for (const workflowId of [orderWorkflowId(id), shippingWorkflowId(id, 1)])
    expect((await stored(bed, workflowId)).filter(({ text }) => text.includes('Unreachable'))).toEqual([]);
});

test('once the row of its key is deleted, nobody reads an order’s histories', async () => {
  const api = overGrpc(bed, ON);
  const id = await startAt(api, anOrder({ address: JANE }));
  await eventually(async () => (await stepOf(api, id)) === 'awaiting_approval');
  await api.post(`/orders/${id}/signals/cancel`, { reason: REASON });
  await eventually(async () => (await stateOf(api, id)) === 'canceled');
  const handle = () => clientOn(bed, ON).workflow.getHandle(orderWorkflowId(id));
  expect(await handle().result()).toBe('canceled');
  // No program's account may.
  const owner = await createConnection(bed.databaseUrl);
  await owner.query('DELETE FROM order_keys WHERE order_id = ?', [id]).finally(() => owner.end());
  expect(await handle().result()).toBeNull();
  expect(await statusOf(overGrpc(bed, ON), id)).toMatchObject({
    state: 'canceled',
    source: 'sql',
  });
});

test('a caller of Temporal starts and commands an order in clear; what the workflow writes is encrypted', async () => {
  const order = await bed.place(anOrder({ address: JANE }), { client: bed.realTimeClient });
  const { workflow } = clientOn(bed, ON);
  const handle = workflow.getHandle(orderWorkflowId(order.id));
  await eventually(async () => (await handle.query<{ step: string }>('status')).step === 'awaiting_approval');
  expect(await keyRow(bed, order.id)).toMatchObject({ kek: 'k1' });
  await order.signal('address', MOVED);
  await order.signal('approve');
  expect(await handle.result()).toBe('shipped');
  expect(await order.view()).toMatchObject({ state: 'shipped', address: MOVED });
  const ofCaller = inClear(await stored(bed, orderWorkflowId(order.id)));
  expect(ofCaller.filter((at) => !/workflowExecution(Started|Signaled)EventAttributes/.test(at))).toEqual([]);
  expect(ofCaller).not.toEqual([]);
});

test('payloads that a caller made up, or copied from another order, end as invalid arguments', async () => {
  const api = overGrpc(bed, ON);
  const victim = await startAt(api, anOrder({ address: JANE }));
  const started = (await bed.realTimeClient.workflow.getHandle(orderWorkflowId(victim)).fetchHistory()).events?.[0];
  const [copied] = started?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
  const id = await startAt(api, anOrder());
  await eventually(async () => (await stepOf(api, id)) === 'awaiting_approval');
  const named = { encoding: Buffer.from('binary/encrypted'), 'encryption-key-id': Buffer.from(id) };
  for (const payload of [copied ?? {}, { metadata: named, data: Buffer.from('made up') }])
    await bed.realTimeClient.workflowService.signalWorkflowExecution({
      namespace: namespaceOf(bed),
      workflowExecution: { workflowId: orderWorkflowId(id) },
      signalName: 'update_address',
      input: { payloads: [payload] },
    });
  await api.post(`/orders/${id}/signals/approve`, {});
  await eventually(async () => (await stateOf(api, id)) === 'shipped');
  const { events } = (await bodyOf(api.get(`/orders/${id}`))) as { events?: { type: string }[] };
  expect(events?.filter(({ type }) => type === 'command_refused').length).toBe(2);
  await api.post(`/orders/${victim}/signals/cancel`, {});
  await eventually(async () => (await stateOf(api, victim)) === 'canceled');
});

test('a worker without the key makes an order wait, not fail', async () => {
  const own = await ownTestbed({ clock: 'real', queues: [] });
  const api = overGrpc(own, ON);
  const stop = await own.startWorkers('orders', 'shipping');
  const id = await startAt(api, anOrder({ address: JANE }));
  const failures = async () =>
    (await stored(own, orderWorkflowId(id))).filter(({ text }) => text.includes('no key for it'));
  await eventually(async () => (await failures()).length > 0);
  expect(await statusOf(api, id)).toMatchObject({ state: 'received', source: 'temporal' });
  await stop();
  own.encryptWith(ON);
  await own.startWorkers('orders', 'shipping');
  expect(await bodyOf(api.post(`/orders/${id}/signals/cancel`, { reason: REASON }))).toMatchObject({ ok: true });
  await eventually(async () => (await stateOf(api, id)) === 'canceled');
});

test('orders in flight go on when it is switched on in three steps, and when it is switched off', async () => {
  const READING: EncryptionConfig = { ...ON, ENCRYPT: 'off' };
  const steps: [workers: EncryptionConfig, api: EncryptionConfig][] = [
    [OFF, OFF],
    [READING, OFF],
    [READING, READING],
    [ON, READING],
    [ON, ON],
    [READING, ON],
    [READING, READING],
  ];
  const own = await ownTestbed({ clock: 'real', queues: [] });
  const started: string[] = [];
  let stop = async () => {};
  let api = overGrpc(own, OFF);
  for (const [workers, ofApi] of steps) {
    await stop();
    own.encryptWith(workers);
    stop = await own.startWorkers('orders', 'shipping');
    const encryption = encryptionOn(own, ofApi);
    // A day for the review: the steps take longer than the exercise's.
    const more = { encryption, policy: 'production' } as const;
    api = apiOn(own, createGrpcTemporal(createTemporalClient(connection, namespaceOf(own), encryption)), more);
    started.push(await startAt(api, anOrder({ address: JANE })));
    for (const id of started) await eventually(async () => (await statusOf(api, id)).source === 'workflow');
    for (const id of started) await eventually(async () => (await statusOf(api, id)).step === 'awaiting_approval');
  }
  for (const id of started) {
    expect(await bodyOf(api.post(`/orders/${id}/signals/address`, { address: MOVED }))).toMatchObject({
      changed: true,
    });
    expect(await bodyOf(api.post(`/orders/${id}/signals/approve`, {}))).toMatchObject({ changed: true });
  }
  for (const id of started) await eventually(async () => (await stateOf(api, id)) === 'shipped');
}, 90_000);

test('a new key is used for new orders, while those of the old one go on', async () => {
  const own = await ownTestbed({ clock: 'real', queues: [], cacheWorkflows: false });
  const NEW = newKey('k2');
  const ROTATED: EncryptionConfig = { ENCRYPTION_KEYS: [NEW, KEY], ENCRYPT: 'on' };
  own.encryptWith(ON);
  const stop = await own.startWorkers('orders', 'shipping');
  const old = await startAt(overGrpc(own, ON), anOrder({ address: JANE }));
  await eventually(async () => (await stepOf(overGrpc(own, ON), old)) === 'awaiting_approval');
  await stop();
  own.encryptWith(ROTATED);
  await own.startWorkers('orders', 'shipping');
  const api = overGrpc(own, ROTATED);
  const fresh = await startAt(api, anOrder({ address: JANE }));
  for (const id of [old, fresh]) await api.post(`/orders/${id}/signals/cancel`, { reason: REASON });
  for (const id of [old, fresh]) await eventually(async () => (await stateOf(api, id)) === 'canceled');
  expect([(await keyRow(own, old))?.kek, (await keyRow(own, fresh))?.kek]).toEqual(['k1', 'k2']);
});

test('an order whose run was ended is settled with the reason of its cancel, which is read and sent encrypted', async () => {
  const own = await ownTestbed({ clock: 'real', encryption: ON });
  const encryption = createEncryption(ON, createOrderKeyStore(own.db), { makesKeys: true });
  const client = createTemporalClient(connection, namespaceOf(own), encryption);
  let isDown = true;
  const refund: Fault = (real) => (isDown ? new Promise(() => {}) : real());
  const order = await own.place(anOrder({ address: JANE }), { client, faults: { dispatch: hangs, refund } });
  const views = createOrderViews(own.db);
  const api = overGrpc(own, ON);
  await api.post(`/orders/${order.id}/signals/approve`, {});
  await eventually(async () => (await stateOf(api, order.id)) === 'shipping');
  expect(await bodyOf(api.post(`/orders/${order.id}/signals/cancel`, { reason: REASON }))).toMatchObject({ ok: true });
  await order.handle.terminate();
  isDown = false;
  const stopping = new AbortController();
  const sweeping = sweep({ client, views, openOrders: createOpenOrders(own.db), log, signal: stopping.signal });
  await eventually(async () => (await stateOf(api, order.id)) === 'canceled');
  stopping.abort();
  await sweeping;
  expect(await views.find(order.id)).toMatchObject({ cancel_reason: REASON });
  const settled = await stored(own, settleWorkflowId(order.id));
  expect([inClear(settled), readable(settled)]).toEqual([[], []]);
});

test('while the keys can’t be stored nothing is started: the answer is UNAVAILABLE', async () => {
  const own = await ownTestbed({ clock: 'real', queues: [] });
  const { order_id, ...body } = anOrder({ address: JANE });
  const encryption = encryptionOf(ON, createOrderKeyStore(openDatabase('mysql://nobody@127.0.0.1:1/none')));
  const client = createTemporalClient(connection, namespaceOf(own), encryption);
  const api = apiOn(own, createGrpcTemporal(client), { encryption });
  const answer = await api.post(`/orders/${order_id}/start`, body);
  expect([answer.status, await answer.json()]).toMatchObject([503, { code: 'UNAVAILABLE' }]);
  // The port itself does not send in clear either, whoever calls it.
  for (const port of [createGrpcTemporal(client), overHttp(own, encryption)])
    await expect(port.start({ order_id, ...body }, 'hash')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await expect(own.realTimeClient.workflow.getHandle(orderWorkflowId(order_id)).describe()).rejects.toThrow(
    'not found',
  );
});
