/** An outage is tolerated where there is another source. A bug never is: it is reported, and the answer is INTERNAL. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Connection } from '@temporalio/client';
import { createApp } from '@trellis/api/http/app';
import type { Failure } from '@trellis/api/http/failure';
import { createAdmission } from '@trellis/api/orders/admission';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { createHttpTemporal } from '@trellis/api/temporal/http';
import type { TemporalPort } from '@trellis/api/temporal/port';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { OrderError } from '@trellis/contracts/error';
import { type Database, DatabaseError } from '@trellis/drizzle/database';
import { openStores } from '@trellis/drizzle/stores';
import { describe, expect, onTestFinished, test } from 'vitest';
import { AUTH_OFF, anOrder } from '../fixtures.ts';

const BUG = new TypeError("Cannot read properties of undefined (reading 'map')");
const OUTAGE = new DatabaseError('the database does not answer');
const FULL = new DatabaseError('the database has too many connections', { kind: 'busy' });
const DENIED = new DatabaseError('the database refuses the connection', { kind: 'permanent' });
const CLOSED_PORT = '127.0.0.1:1';

/** Stores on a database whose every call fails with `error`. */
function storesThat(error: Error) {
  const fail = () => Promise.reject(error);
  return openStores({ run: fail, transaction: fail, ping: fail, close: async () => undefined } satisfies Database);
}

function appWith(temporal: TemporalPort, error: Error) {
  const reported: Failure[] = [];
  const onFailure = (failure: Failure) => void reported.push(failure);
  const app = createApp({ temporal, ...storesThat(error), policy: 'exercise', auth: AUTH_OFF, onFailure });
  return { app, reported };
}

const BUG_REPORT = { code: 'INTERNAL', reason: `${BUG}`, stack: BUG.stack };
const unreachable = () => createHttpTemporal({ url: `http://${CLOSED_PORT}`, namespace: 'default' });
const { order_id, ...order } = anOrder();
const CALLS: [method: string, path: string, body?: string][] = [
  ['POST', `/orders/${order_id}/start`, JSON.stringify(order)],
  ['GET', `/orders/${order_id}/status`],
  ['GET', `/orders/${order_id}`],
  ['GET', '/orders'],
];

describe('a bug in a store', () => {
  test.each(CALLS)('is INTERNAL and reported: %s %s', async (method, path, body) => {
    const { app, reported } = appWith(unreachable(), BUG);
    const response = await app.request(path, { method, ...(body && { body }) });
    expect(await response.json()).toMatchObject({
      status: 500,
      code: 'INTERNAL',
      detail: 'an internal error occurred',
    });
    const of = path.includes(order_id) ? { order_id } : {};
    expect(reported).toEqual([{ method, path, ...of, ...BUG_REPORT }]);
  });

  test('does not admit an order, unlike an outage', async () => {
    const admissionWith = (error: Error) => createAdmission(storesThat(error).capacity, 'exercise');
    await expect(admissionWith(BUG).admit('o-1')).rejects.toBe(BUG);
    await expect(admissionWith(BUG).giveBack('o-1')).rejects.toBe(BUG);
    expect(await admissionWith(OUTAGE).admit('o-1')).toEqual({ admitted: true, counted: false });
    await admissionWith(OUTAGE).giveBack('o-1');
    expect(await admissionWith(FULL).admit('o-1')).toMatchObject({ admitted: false });
  });
});

// A start does without SQL.
test.each(CALLS.slice(1))('a permanent error of SQL is INTERNAL and reported: %s %s', async (method, path) => {
  const { app, reported } = appWith(unreachable(), DENIED);
  const response = await app.request(path, { method });
  expect(await response.json()).toMatchObject({ status: 500, code: 'INTERNAL' });
  expect(reported).toMatchObject([{ code: 'INTERNAL' }]);
});

test.each(CALLS)('an outage of SQL and Temporal is UNAVAILABLE: %s %s', async (method, path, body) => {
  const { app } = appWith(unreachable(), OUTAGE);
  const response = await app.request(path, { method, ...(body && { body }) });
  expect(await response.json()).toMatchObject({ status: 503, code: 'UNAVAILABLE' });
});

test('a bug in the query of a status is INTERNAL and reported, not treated as a missing answer', async () => {
  const { app, reported } = appWith({ ...unreachable(), query: () => Promise.reject(BUG) }, OUTAGE);
  expect((await app.request(`/orders/${order_id}/status`)).status).toBe(500);
  expect(reported).toMatchObject([BUG_REPORT]);
});

describe.each<[name: string, open: () => TemporalPort]>([
  [
    'gRPC',
    () => {
      // Never closed: a call that the client repeats later would throw.
      const connection = Connection.lazy({ address: CLOSED_PORT });
      return createGrpcTemporal(createTemporalClient(connection));
    },
  ],
  ['HTTP', unreachable],
])('the Temporal adapter over %s', (_, open) => {
  test('rethrows a bug unchanged', async () => {
    const notJson = [1n];
    const calls = [
      open().update('o-1', 'cancel', notJson, 'id-1', 500),
      open().signal('o-1', 'cancel', notJson),
      open().start({ ...anOrder(), items: notJson as never }, 'hash'),
    ];
    for (const result of await Promise.allSettled(calls)) {
      expect(result).toMatchObject({ status: 'rejected', reason: expect.any(Error) });
      expect((result as PromiseRejectedResult).reason).not.toBeInstanceOf(OrderError);
    }
  });

  test('has no answer to a query while Temporal is down', async () => {
    expect(await open().query('o-1', 200)).toBeUndefined();
  });
});

test('a malformed answer of Temporal is a bug, which the query reports', async () => {
  const payload = { metadata: { encoding: btoa('json/plain') }, data: btoa('{"state":') };
  const url = await serve(JSON.stringify({ queryResult: { payloads: [payload] } }));
  await expect(createHttpTemporal({ url, namespace: 'x' }).query('o-1', 1_000)).rejects.toThrow(SyntaxError);
});

describe('an answer that a proxy gives for Temporal is an outage, whatever JSON it is:', () => {
  test.each([
    [502, '{"message":"bad gateway","details":"upstream connect error"}'],
    [503, '{"details":[null]}'],
    [503, '{"details":{"reason":"overload"}}'],
    [503, 'null'],
    [200, 'null'],
    [200, '"ok"'],
  ])('%i %s', async (status, body) => {
    const temporal = createHttpTemporal({ url: await serve(body, status), namespace: 'x' });
    const unavailable = { code: 'UNAVAILABLE' };
    await expect(temporal.start(anOrder(), 'hash')).rejects.toMatchObject(unavailable);
    await expect(temporal.find('o-1')).rejects.toMatchObject(unavailable);
    await expect(temporal.signal('o-1', 'approve', [])).rejects.toMatchObject(unavailable);
    expect(await temporal.update('o-1', 'approve', [], 'id-1', 500)).toEqual({ outcome: 'not_accepted' });
    expect(await temporal.query('o-1', 500)).toBeUndefined();
  });
});

/** The URL of an HTTP server that answers every request with `body`. */
async function serve(body: string, status = 200): Promise<string> {
  const server: Server = createServer((_, response) => response.writeHead(status).end(body));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.closeAllConnections(), 1_000);
  onTestFinished(() => void server.close(), 1_000);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
