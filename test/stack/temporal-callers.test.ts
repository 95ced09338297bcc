/** Whoever reaches Temporal without the API neither charges, nor diverts a parcel, nor ends an order whose run goes on. */

import { makeKey, publicKeyOf, signToken } from '@trellis/api/callers/own-keys';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { createApprovalCheck, createApprovalSigner } from '@trellis/contracts/approval-proof';
import {
  ORDERS_QUEUE,
  SETTLE_WORKFLOW,
  SHIPPING_QUEUE,
  SHIPPING_WORKFLOW,
  settleWorkflowId,
} from '@trellis/contracts/temporal';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import { apiOn, awaitingApproval, hangs, openTestbed, ownTestbed } from '../workflow-fixture.ts';

const key = await makeKey();
const bed = await openTestbed({ clock: 'real', approvalKeys: [publicKeyOf(key)] });
afterAll(() => bed.close());
afterEach(async () => expect(await bed.violations()).toEqual([]));

const sign = createApprovalSigner(`${publicKeyOf(key)}.${key.d}`);
const JANE = { sub: 'jane', shop: 'acme', via: 'https://login.example' };
const HASH = '0'.repeat(64);

describe('an approval that the API did not sign', () => {
  const forged: Record<string, (orderId: string) => Promise<string | undefined>> = {
    'that no key has signed': async () => undefined,
    'of another key': async (order_id) => {
      const other = await makeKey();
      return createApprovalSigner(`${publicKeyOf(other)}.${other.d}`)({ order_id, id: 'c-1' }, JANE);
    },
    'of another order': () => sign({ order_id: 'o-another', id: 'c-1' }, JANE),
    'that is no signature': async () => 'a.b.c',
  };

  test.each(Object.keys(forged))('moves no money: %s', async (which) => {
    for (const by of ['update', 'signal'] as const) {
      const order = await bed.place();
      await awaitingApproval(order);
      const proof = await forged[which]?.(order.id);
      if (by === 'update') await order.update('approve', [HASH, JANE, proof]);
      else await order.signal('approve', 'c-1', HASH, JANE, proof);
      expect(await order.end()).toBe('failed');
      expect(await order.row()).toMatchObject({ state: 'failed', reason: 'UNAPPROVED' });
      expect(await bed.books(order.id)).toMatchObject({ charges: [], parcel: undefined });
    }
  });

  test('is not taken from a signature of something else that the same key has signed', async () => {
    const check = createApprovalCheck([publicKeyOf(key)]);
    const token = await signToken(key, { sub: 'jane', scopes: [], audience: 'x', expires: '1h', order: 'o-1' });
    expect(await check('o-1', token)).toBeUndefined();
    expect(await check('o-1', await sign({ order_id: 'o-1', id: 'c' }, JANE))).toEqual(JANE);
  });
});

test('an approval through the API is signed: the order ships, and the event names who the signature names', async () => {
  const order = await bed.place();
  await awaitingApproval(order);
  const api = apiOn(bed, createGrpcTemporal(bed.realTimeClient), { signApproval: sign });
  expect((await api.post(`/orders/${order.id}/signals/approve`, {})).status).toBe(200);
  expect(await order.end()).toBe('shipped');
  const { events } = await order.view();
  expect(events.find(({ type }) => type === 'order_approved')?.actor).toEqual({ sub: 'anybody', via: 'auth-off' });
});

test('the event of an approval names who signed it, whatever the command says', async () => {
  const order = await bed.place();
  await awaitingApproval(order);
  const proof = await sign({ order_id: order.id, id: 'c-1' }, JANE);
  await order.update('approve', [HASH, { sub: 'the chief', via: 'https://login.example' }, proof]);
  expect(await order.end()).toBe('shipped');
  const { events } = await order.view();
  expect(events.find(({ type }) => type === 'order_approved')?.actor).toEqual(JANE);
});

test('the events of an order that is canceled between its approval and its charge say who approved and who canceled it', async () => {
  const idle = await ownTestbed({ clock: 'real', queues: [] });
  const JOHN = { ...JANE, sub: 'john' };
  const order = await idle.placeApproved(anOrder(), { signalArgs: ['c-1', HASH, JANE] });
  await order.signal('cancel', 'changed my mind', 'c-2', HASH, JOHN);
  const stop = await idle.startWorkers('orders', 'shipping');
  expect(await order.end()).toBe('canceled');
  await stop();
  const { events } = await order.view();
  const actors = events.map(({ type, actor }) => [type, actor?.sub]);
  expect(actors).toEqual([
    ['order_received', 'unknown'],
    ['order_validated', 'trellis-orders'],
    ['order_approved', 'jane'],
    ['order_canceled', 'john'],
  ]);
});

test('an activity that is started by itself changes nothing', async () => {
  const order = await bed.place();
  await awaitingApproval(order);
  const { workflowService } = bed.env.connection;
  const input = { order_id: order.id, payment_id: order.order.payment_id };
  const activityId = freshId('charge');
  const namespace = bed.env.namespace ?? 'default';
  await workflowService.startActivityExecution({
    namespace,
    requestId: freshId(),
    activityId,
    activityType: { name: 'charge_payment' },
    taskQueue: { name: ORDERS_QUEUE },
    startToCloseTimeout: { seconds: 5 as never },
    retryPolicy: { maximumAttempts: 1 },
    input: {
      payloads: [{ metadata: { encoding: Buffer.from('json/plain') }, data: Buffer.from(JSON.stringify(input)) }],
    },
  });
  const ended = await eventually(async () => {
    const { outcome } = await workflowService.pollActivityExecution({ namespace, activityId });
    return outcome;
  });
  expect(ended?.failure?.applicationFailureInfo?.type).toBe('FORBIDDEN');
  expect(await bed.books(order.id)).toMatchObject({ charges: [] });
  await order.update('cancel');
  expect(await order.end()).toBe('canceled');
});

test('a shipment that another caller starts goes to the order’s own address', async () => {
  const order = await bed.place(anOrder(), { faults: { dispatch: hangs } });
  await awaitingApproval(order);
  await order.update('approve', [HASH, JANE, await sign({ order_id: order.id, id: 'c-1' }, JANE)]);
  await eventually(async () => (await order.status()).step === 'shipping_child');
  await eventually(async () => (await order.row()).child_attempts === 1);
  const { client } = bed.env;
  const thief = { ...order.order, address: { line1: '66 Thief Rd', city: 'Chicago' } };
  const shipment = await client.workflow.start(SHIPPING_WORKFLOW, {
    workflowId: freshId('ship-thief'),
    taskQueue: SHIPPING_QUEUE,
    args: [{ order: thief, parent_workflow_id: '', attempt: 99 }],
  });
  await shipment.result().catch(() => undefined);
  await order.end();
  const { shipments } = await order.view();
  expect(JSON.stringify([shipments, await bed.books(order.id)])).not.toContain('Thief');
});

test('no order is settled whose run goes on', async () => {
  const order = await bed.place();
  await awaitingApproval(order);
  const settling = await bed.env.client.workflow.start(SETTLE_WORKFLOW, {
    workflowId: settleWorkflowId(order.id),
    taskQueue: ORDERS_QUEUE,
    args: [{ order_id: order.id, cancel_reason: 'because I can' }],
  });
  expect(await settling.result()).toBe('awaiting_approval');
  expect(await order.row()).toMatchObject({ state: 'awaiting_approval', cancel_reason: null });
  await order.update('cancel');
  expect(await order.end()).toBe('canceled');
});
