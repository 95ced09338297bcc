/** The two adapters of the Temporal port, gRPC and Temporal's HTTP API, give the same answers. */
import { createServer as createHttpServer, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { Connection } from '@temporalio/client';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { createHttpTemporal } from '@trellis/api/temporal/http';
import type { TemporalPort } from '@trellis/api/temporal/port';
import { COMMAND_LIMITS } from '@trellis/contracts/commands';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { OrderError } from '@trellis/contracts/error';
import { requestHash } from '@trellis/contracts/request-hash';
import {
  ORDER_WORKFLOW,
  ORDERS_QUEUE,
  orderWorkflowId,
  REQUEST_HASH_MEMO,
  WORKFLOW_TASK_TIMEOUT_MS,
} from '@trellis/contracts/temporal';
import { afterAll, describe, expect, test } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import { need } from '../servers.ts';
import { apiOn, fillHistory, gate, inFirstAttempt, openTestbed } from '../workflow-fixture.ts';

const { TEMPORAL_ADDRESS, TEMPORAL_HTTP_URL } = await need('temporal');
const CLOSED_PORT = '127.0.0.1:1';
const BOSTON = { line1: '2 Birch', city: 'Boston' };
const HASH = 'a'.repeat(64);
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

const bed = await openTestbed({ clock: 'real' });
afterAll(() => bed.close());
const empty = await openTestbed({ clock: 'real', queues: [] });
afterAll(() => empty.close());

interface Adapter {
  name: string;
  /** The port on a server, whose address has this adapter's form. */
  port(namespace: string, at?: string): TemporalPort;
}

const connections: Connection[] = [];
afterAll(() => Promise.all(connections.map((connection) => connection.close())));
const ADAPTERS: Adapter[] = [
  {
    name: 'gRPC',
    port(namespace, at = TEMPORAL_ADDRESS) {
      const connection = Connection.lazy({ address: at });
      connections.push(connection);
      return createGrpcTemporal(createTemporalClient(connection, namespace));
    },
  },
  {
    name: 'HTTP',
    port: (namespace, at) => createHttpTemporal({ url: at ? `http://${at}` : TEMPORAL_HTTP_URL, namespace }),
  },
];

const namespaceOf = ({ env }: typeof bed) => env.namespace ?? 'default';
const codeOf = (calling: Promise<unknown>) =>
  calling.then(
    () => 'no error',
    (error: unknown) => (error instanceof OrderError ? error.code : error),
  );

const bodyOf = async (answer: Promise<Response>) => (await answer).json() as Promise<Record<string, unknown>>;

describe.each(ADAPTERS)('over $name', ({ port }) => {
  const temporal = port(namespaceOf(bed));
  /** On a namespace that no worker polls. */
  const idle = port(namespaceOf(empty));

  /** Sends a command through the API. */
  const send = (id: string, command: 'address' | 'cancel', body: object, key = freshId()) =>
    bodyOf(apiOn(bed, temporal).post(`/orders/${id}/signals/${command}`, body, key));

  /** An order that waits for its approval. */
  async function atReview(given = anOrder()) {
    await temporal.start(given, HASH);
    await eventually(async () => (await temporal.query(given.order_id, 1_000))?.step === 'awaiting_approval');
    return given.order_id;
  }

  async function canceled() {
    const id = await atReview();
    await temporal.update(id, 'cancel', [], freshId(), 2_000);
    await eventually(async () => (await temporal.query(id, 1_000))?.state === 'canceled');
    return id;
  }

  test('an order is started once, and found with its run and the hash of its request', async () => {
    const order = anOrder({ order_id: `${freshId()}:a.b_c-d` });
    const started = await temporal.start(order, HASH);
    expect(started).toEqual({ run_id: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    expect(await temporal.start(order, HASH)).toBeUndefined();
    expect(await temporal.find(order.order_id)).toEqual({
      run_id: started?.run_id,
      started_at: expect.stringMatching(ISO),
      request_hash: HASH,
      dead: false,
    });
    expect(await temporal.query(order.order_id, 2_000)).toMatchObject({ order_id: order.order_id });
  });

  test('an order is started with the workflow task timeout of its policy', async () => {
    for (const policy of ['exercise', 'production'] as const) {
      const { order_id } = anOrder();
      await idle.start({ ...anOrder({ order_id }), policy }, HASH);
      const { events } = await empty.realTimeClient.workflow.getHandle(orderWorkflowId(order_id)).fetchHistory();
      const timeout = events?.[0]?.workflowExecutionStartedEventAttributes?.workflowTaskTimeout?.seconds;
      expect(Number(timeout) * 1_000).toBe(WORKFLOW_TASK_TIMEOUT_MS[policy]);
    }
  });

  test('an order that has ended is found, answers a query, and is not started again', async () => {
    const id = await canceled();
    expect(await temporal.find(id)).toMatchObject({ request_hash: HASH });
    expect(await temporal.query(id, 1_000)).toMatchObject({ state: 'canceled', canceled: true });
    expect(await temporal.start(anOrder({ order_id: id }), HASH)).toBeUndefined();
  });

  test('a command is decided, and its id sent again gets the first answer, also after the order has ended', async () => {
    const id = await atReview();
    const first = { outcome: 'decided', answer: { command: 'cancel', state: 'awaiting_approval', changed: true } };
    const key = freshId();
    expect(await temporal.update(id, 'cancel', ['Zoë’s mind 🙂'], key, 2_000)).toEqual(first);
    await eventually(async () => (await temporal.query(id, 1_000))?.state === 'canceled');
    expect(await temporal.query(id, 1_000)).toMatchObject({ cancel_reason: 'Zoë’s mind 🙂' });
    expect(await temporal.update(id, 'cancel', [], key, 2_000)).toEqual(first);
    expect(await temporal.update(id, 'cancel', [], freshId(), 2_000)).toEqual({ outcome: 'no_open_run' });
  });

  test('a command is refused with its code, its message and the state that forbids it', async () => {
    const [charge, refund] = [gate(), gate()];
    const given = anOrder();
    await bed.placeApproved(given, { faults: { charge: charge.before, refund: refund.before } });
    await charge.reached;
    expect(await temporal.update(given.order_id, 'cancel', [], freshId(), 2_000)).toMatchObject({ outcome: 'decided' });
    const refused = await temporal.update(given.order_id, 'approve', [], freshId(), 2_000);
    for (const held of [charge, refund]) held.open();
    expect(refused).toEqual({
      outcome: 'refused',
      code: 'TOO_LATE',
      message: expect.stringMatching(/^too late: the order is /),
      details: { state: expect.any(String) },
    });
  });

  test('a malformed address is INVALID, with the failing fields', async () => {
    const id = await atReview();
    expect(await temporal.update(id, 'address', [{ line1: '' }], freshId(), 2_000)).toMatchObject({
      outcome: 'refused',
      code: 'INVALID',
      details: { errors: [{ path: 'line1' }, { path: 'city' }] },
    });
  });

  test('a command that is not decided in time is accepted, and its id sent again gets the decision', async () => {
    const dispatch = gate();
    const given = anOrder();
    await bed.placeApproved(given, { faults: { dispatch: dispatch.before } });
    await dispatch.reached;
    const key = freshId();
    expect(await temporal.update(given.order_id, 'address', [BOSTON], key, 500)).toEqual({ outcome: 'accepted' });
    dispatch.open();
    expect(await temporal.update(given.order_id, 'address', [BOSTON], key, 2_000)).toMatchObject({ code: 'TOO_LATE' });
  });

  test('a command whose run is terminated before it is decided is interrupted', async () => {
    const dispatch = gate();
    const given = anOrder();
    const order = await bed.placeApproved(given, { faults: { dispatch: dispatch.before } });
    await dispatch.reached;
    const asked = temporal.update(given.order_id, 'address', [BOSTON], freshId(), 5_000);
    await eventually(async () => {
      const { events } = await order.handle.fetchHistory();
      return events?.some((event) => event.workflowExecutionUpdateAcceptedEventAttributes);
    });
    await order.handle.terminate();
    expect(await asked).toEqual({ outcome: 'interrupted' });
    expect(await send(given.order_id, 'address', { address: BOSTON })).toMatchObject({ code: 'UNAVAILABLE' });
    dispatch.open();
  });

  test('an order whose run was continued as new is found by its first run’s id, and is not started again', async () => {
    const order = anOrder();
    const first = await temporal.start({ ...order, policy: 'production' }, HASH);
    const handle = bed.env.client.workflow.getHandle(orderWorkflowId(order.order_id));
    await eventually(async () => (await temporal.query(order.order_id, 1_000))?.step === 'awaiting_approval');
    await fillHistory({ handle });
    expect(await temporal.find(order.order_id)).toMatchObject({
      run_id: first?.run_id,
      request_hash: HASH,
      dead: false,
    });
    expect(await temporal.start(order, HASH, true)).toBeUndefined();
    expect(await send(order.order_id, 'cancel', {})).toMatchObject({ changed: true });
  });

  test('a command whose run is continued as new before it is decided is interrupted, and sent again gets its answer', async () => {
    const dispatch = gate();
    const given = anOrder({ address: { line1: '123 Main', city: 'Unreachable' } });
    const order = await bed.placeApproved(given, { faults: { dispatch: inFirstAttempt(dispatch.before) } });
    await dispatch.reached;
    const key = freshId();
    const asked = temporal.update(given.order_id, 'address', [BOSTON], key, 10_000);
    await eventually(async () => {
      const { events } = await order.handle.fetchHistory();
      return events?.some((event) => event.workflowExecutionUpdateAcceptedEventAttributes);
    });
    await fillHistory(order);
    expect(await asked).toEqual({ outcome: 'interrupted' });
    expect(await send(given.order_id, 'address', { address: BOSTON }, key)).toMatchObject({ changed: true });
    expect(await order.end()).toBe('shipped');
    dispatch.open();
  });

  test('a command that is sent while ten updates wait is stored as a signal', async () => {
    const dispatch = gate();
    const given = anOrder();
    const order = await bed.placeApproved(given, { faults: { dispatch: dispatch.before } });
    await dispatch.reached;
    const waiting = Array.from({ length: 10 }, () =>
      temporal.update(given.order_id, 'address', [BOSTON], freshId(), 1_000),
    );
    expect(new Set((await Promise.all(waiting)).map(({ outcome }) => outcome))).toEqual(new Set(['accepted']));
    expect(await temporal.update(given.order_id, 'cancel', [], freshId(), 500)).toEqual({ outcome: 'not_accepted' });
    expect(await send(given.order_id, 'cancel', {})).toEqual({ ok: true, queued: true });
    expect(await order.end()).toBe('canceled');
    dispatch.open();
  });

  test('a repetition that the validator answers is decided, without a change', async () => {
    const charge = gate();
    const given = anOrder();
    const order = await bed.placeApproved(given, { faults: { charge: charge.before } });
    await charge.reached;
    await Promise.all(Array.from({ length: COMMAND_LIMITS.repetitions }, () => order.signal('approve')));
    await eventually(
      async () => (await temporal.update(given.order_id, 'approve', [], freshId(), 2_000)).outcome === 'decided',
    );
    const { historyLength } = await order.handle.describe();
    expect(await temporal.update(given.order_id, 'approve', [], freshId(), 2_000)).toEqual({
      outcome: 'decided',
      answer: { command: 'approve', state: 'approved', changed: false },
    });
    expect((await order.handle.describe()).historyLength).toBe(historyLength);
    charge.open();
  });

  test('an order whose run was ended before it had a row is started again, also with another body', async () => {
    const order = anOrder();
    const api = apiOn(empty, idle);
    const start = (given = order) => bodyOf(api.post(`/orders/${order.order_id}/start`, given));
    const first = await start();
    expect(await start()).toEqual(first);
    const view = () => bodyOf(api.get(`/orders/${order.order_id}`));
    expect(await view()).toMatchObject({ order_id: order.order_id, state: 'received', events: [] });
    await empty.env.client.workflow.getHandle(orderWorkflowId(order.order_id)).terminate();
    expect(await idle.find(order.order_id)).toMatchObject({ run_id: first.run_id, dead: true });
    expect(await bodyOf(api.get(`/orders/${order.order_id}/status`))).toMatchObject({ code: 'NOT_FOUND' });
    expect(await view()).toMatchObject({ code: 'NOT_FOUND' });
    expect(await idle.start(order, await requestHash(order))).toBeUndefined();
    const other = { ...order, items: [{ sku: 'XYZ', qty: 1 }] };
    const second = await start(other);
    expect(second).toEqual({ workflow_id: first.workflow_id, run_id: expect.any(String) });
    expect(second.run_id).not.toBe(first.run_id);
    expect(await start(other)).toEqual(second);
    expect(await start()).toMatchObject({ code: 'ORDER_CONFLICT' });
  });

  test('an order that another caller started with a memo in an unknown encoding is found', async () => {
    const id = freshId();
    const { client, namespace } = empty.env;
    await client.workflowService.startWorkflowExecution({
      namespace: namespace ?? 'default',
      workflowId: orderWorkflowId(id),
      workflowType: { name: ORDER_WORKFLOW },
      taskQueue: { name: ORDERS_QUEUE },
      requestId: freshId(),
      memo: { fields: { [REQUEST_HASH_MEMO]: { metadata: { encoding: Buffer.from('binary/encrypted') } } } },
    });
    expect(await idle.find(id)).toMatchObject({ request_hash: undefined, dead: false });
  });

  test('an order that was never started has no running run, accepts no signal, answers no query and is not found', async () => {
    const id = freshId();
    expect(await temporal.update(id, 'approve', [], freshId(), 2_000)).toEqual({ outcome: 'no_open_run' });
    expect(await temporal.signal(id, 'approve', [freshId()])).toBe(false);
    expect(await temporal.query(id, 1_000)).toBeUndefined();
    expect(await temporal.find(id)).toBeUndefined();
  });

  test('a signal is accepted by an order that is running, and by none that has ended', async () => {
    const id = await atReview();
    expect(await temporal.signal(id, 'cancel', [null, freshId()])).toBe(true);
    await eventually(async () => (await temporal.query(id, 1_000))?.state === 'canceled');
    expect(await temporal.signal(id, 'approve', [freshId()])).toBe(false);
  });

  test('without a worker a command is not accepted and a query has no answer, both in time; a signal is kept', async () => {
    const order = anOrder();
    await idle.start(order, HASH);
    const began = Date.now();
    expect(await idle.update(order.order_id, 'approve', [], freshId(), 1_000)).toEqual({ outcome: 'not_accepted' });
    expect(await idle.query(order.order_id, 300)).toBeUndefined();
    expect(Date.now() - began).toBeLessThan(2_500);
    expect(await idle.signal(order.order_id, 'approve', [freshId()])).toBe(true);
  });

  test('a namespace that does not exist is reported as a refusal, not as a missing order or silence', async () => {
    const nowhere = port(freshId('nowhere'));
    await expect(nowhere.find('x')).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: 'Temporal refuses the call',
    });
    expect(await codeOf(nowhere.start(anOrder(), HASH))).toBe('UNAVAILABLE');
    expect(await codeOf(nowhere.signal('x', 'approve', []))).toBe('UNAVAILABLE');
    expect(await codeOf(nowhere.update('x', 'approve', [], freshId(), 1_000))).toBe('UNAVAILABLE');
    expect(await codeOf(nowhere.ping(1_000))).toBe('UNAVAILABLE');
    await temporal.ping(1_000);
  });

  test.concurrent.each([
    ['is down', () => CLOSED_PORT],
    ['never answers', silentServer],
    ['closes the connection', () => serverThat((response) => response.destroy())],
  ])('a call to a server that %s fails within its timeout', async (_, at) => {
    const away = port('default', await at());
    const began = Date.now();
    await expect(away.ping(500)).rejects.toMatchObject({ message: 'Temporal does not answer' });
    const calls = [away.start(anOrder(), HASH), away.find('x'), away.signal('x', 'approve', []), away.ping(500)];
    expect(new Set(await Promise.all(calls.map(codeOf)))).toEqual(new Set(['UNAVAILABLE']));
    // Whether a command was delivered is unknown; the signal that follows it fails as UNAVAILABLE.
    expect(await away.update('x', 'approve', [], freshId(), 500)).toEqual({ outcome: 'not_accepted' });
    expect(await away.query('x', 300)).toBeUndefined();
    expect(Date.now() - began).toBeLessThan(6_000);
  });
});

test('over HTTP the answer of a proxy is UNAVAILABLE, 429 is BUSY, and a run takes no update after two thousand', async () => {
  const html = await serverThat((response) => response.end('<html>'));
  expect(await codeOf(createHttpTemporal({ url: `http://${html}`, namespace: 'x' }).find('x'))).toBe('UNAVAILABLE');
  const busy = await serverThat((response) => response.writeHead(429).end('{"code":8}'));
  expect(await codeOf(createHttpTemporal({ url: `http://${busy}`, namespace: 'x' }).find('x'))).toBe('BUSY');
  const used = await serverThat((response) => response.writeHead(400).end('{"code":9}'));
  const after2000 = createHttpTemporal({ url: `http://${used}`, namespace: 'x' });
  expect(await after2000.update('x', 'cancel', [], 'key', 500)).toEqual({ outcome: 'not_accepted' });
});

/** The address of an HTTP server that answers every request with `answer`. */
const serverThat = (answer: (response: ServerResponse) => unknown): Promise<string> =>
  serving(createHttpServer((_, response) => void answer(response)));

/** The address of a server that accepts connections and never answers. */
const silentServer = (): Promise<string> => serving(createServer());

const closing: (() => void)[] = [];
afterAll(() => {
  for (const close of closing) close();
});

async function serving(server: Server): Promise<string> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}
