/** While SQL or Temporal is down, the API still answers in time where it can, and orders wait without growing their histories. */
import { Connection } from '@temporalio/client';
import { createApp } from '@trellis/api/http/app';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import type { StartInput } from '@trellis/contracts/order';
import { openDatabase } from '@trellis/drizzle/client';
import { openStores } from '@trellis/drizzle/stores';
import { afterAll, describe, expect, test } from 'vitest';
import { AUTH_OFF, anOrder, eventually } from '../fixtures.ts';
import { need } from '../servers.ts';
import { ownTestbed } from '../workflow-fixture.ts';

const { DATABASE_URL, TEMPORAL_ADDRESS } = await need('database', 'temporal', 'worker');
const CLOSED_PORT = '127.0.0.1:1';
const closing: (() => Promise<void>)[] = [];
afterAll(() => Promise.all(closing.map((close) => close())));

function appWith({ temporal = TEMPORAL_ADDRESS, sql = DATABASE_URL } = {}) {
  const db = openDatabase(sql);
  const connection = Connection.lazy({ address: temporal });
  closing.push(db.close, () => connection.close());
  const app = createApp({
    temporal: createGrpcTemporal(createTemporalClient(connection)),
    ...openStores(db),
    policy: 'exercise',
    auth: AUTH_OFF,
    onFailure: () => {},
  });
  return async (method: string, path: string, body?: unknown) => {
    const response = await app.request(path, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    const json = (await response.json()) as Record<string, unknown>;
    return { status: response.status, retryAfter: response.headers.get('retry-after'), body: json };
  };
}

const call = appWith();
const withoutTemporal = appWith({ temporal: CLOSED_PORT });
const withoutSql = appWith({ sql: `mysql://root@${CLOSED_PORT}/x` });
const withoutBoth = appWith({ temporal: CLOSED_PORT, sql: `mysql://root@${CLOSED_PORT}/x` });

const UNAVAILABLE = { status: 503, retryAfter: '1', body: { code: 'UNAVAILABLE' } };

async function placed(): Promise<string> {
  const { order_id, ...order } = anOrder();
  await call('POST', `/orders/${order_id}/start`, order);
  await eventually(async () => (await call('GET', `/orders/${order_id}/status`)).body.step === 'awaiting_approval');
  return order_id;
}

async function canceled(): Promise<string> {
  const order_id = await placed();
  await call('POST', `/orders/${order_id}/signals/cancel`);
  await eventually(async () => (await call('GET', `/orders/${order_id}`)).body.state === 'canceled');
  return order_id;
}

describe('without Temporal', () => {
  test('a start and a command are UNAVAILABLE, with Retry-After', async () => {
    const { order_id, ...order } = anOrder();
    expect(await withoutTemporal('POST', `/orders/${order_id}/start`, order)).toMatchObject(UNAVAILABLE);
    expect(await withoutTemporal('POST', `/orders/${await placed()}/signals/approve`)).toMatchObject(UNAVAILABLE);
  });

  test('the status of any recorded order is read from SQL', async () => {
    expect(await withoutTemporal('GET', `/orders/${await canceled()}/status`)).toMatchObject({
      status: 200,
      body: { state: 'canceled', source: 'sql' },
    });
    expect(await withoutTemporal('GET', `/orders/${await placed()}/status`)).toMatchObject({
      status: 200,
      body: { state: 'awaiting_approval', source: 'sql' },
    });
  });
});

describe('without SQL', () => {
  test('an order starts, has a status and accepts commands', async () => {
    const { order_id, ...order } = anOrder();
    const first = await withoutSql('POST', `/orders/${order_id}/start`, order);
    expect(first.status).toBe(200);
    expect(await withoutSql('POST', `/orders/${order_id}/start`, order)).toEqual(first);
    const other = { ...order, payment_id: 'other' };
    expect(await withoutSql('POST', `/orders/${order_id}/start`, other)).toMatchObject({ status: 409 });
    await eventually(async () => (await withoutSql('GET', `/orders/${order_id}/status`)).body.source === 'workflow');
    expect(await withoutSql('POST', `/orders/${order_id}/signals/cancel`)).toMatchObject({ status: 200 });
  });

  test('what is only in SQL is UNAVAILABLE', async () => {
    expect(await withoutSql('GET', '/orders')).toMatchObject(UNAVAILABLE);
    expect(await withoutSql('GET', `/orders/${await placed()}`)).toMatchObject(UNAVAILABLE);
    expect(await withoutSql('POST', `/orders/${await canceled()}/signals/approve`)).toMatchObject(UNAVAILABLE);
  });
});

test('without both only /health answers 200', async () => {
  expect(await withoutBoth('GET', '/orders/o-1/status')).toMatchObject(UNAVAILABLE);
  expect(await withoutBoth('GET', '/health')).toMatchObject({ status: 200, body: { ok: true } });
});

describe('an order whose database is down', () => {
  test.each([
    'before its first step',
    'while it is charged',
  ])('%s waits without growing its history, and ships in the end', async (when) => {
    const bed = await ownTestbed({ clock: 'real' });
    const { transaction } = bed.db;
    const lose = () => {
      bed.db.transaction = () => Promise.reject(new Error('the database is down'));
    };
    if (when === 'before its first step') lose();
    const order = await bed.place({ ...anOrder(), policy: 'production' } as StartInput);
    if (when === 'while it is charged') {
      await eventually(async () => (await order.status()).step === 'awaiting_approval');
      lose();
    }
    await order.signal('approve');

    const afterAttempts = (attempts: number) =>
      eventually(async () => {
        const { raw, historyLength } = await order.handle.describe();
        return (raw.pendingActivities?.[0]?.attempt ?? 0) >= attempts && historyLength;
      }, 40_000);
    const early = await afterAttempts(2);
    expect(await afterAttempts(4)).toBe(early);

    bed.db.transaction = transaction;
    expect(await order.end()).toBe('shipped');
    expect(await bed.violations()).toEqual([]);
  }, 120_000);
});
