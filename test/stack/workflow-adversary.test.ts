/** What an order makes of workers that wake too late, operators who intervene, and strangers who know its names. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { isTerminal } from '@trellis/contracts/lifecycle';
import {
  ORDERS_QUEUE,
  SETTLE_WORKFLOW,
  SHIPPING_QUEUE,
  SHIPPING_WORKFLOW,
  settleWorkflowId,
  shippingWorkflowId,
} from '@trellis/contracts/temporal';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { sweep } from '@trellis/workers/jobs/sweep';
import { createConnection } from 'mysql2/promise';
import { afterAll, afterEach, describe, expect, onTestFinished, test } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import { gate, hangs, log, openShop, ownShop, type PlacedOrder, type Twist } from '../workflow-fixture.ts';

const shop = await openShop({ clock: 'real' });
afterAll(() => shop.close());

const BOSTON = { line1: '2 Birch', city: 'Boston' };
const awaitingApproval = (order: PlacedOrder) =>
  eventually(async () => (await order.status()).step === 'awaiting_approval');
const shipping = (order: PlacedOrder) => eventually(async () => (await order.status()).child_attempts > 0);

describe('an order that nothing may be left of but one end', () => {
  afterEach(async () => expect(await shop.wrongs()).toEqual([]));

  test('is not closed by a frozen worker that still believes nobody approved it', async () => {
    const carrier = gate();
    const order = await shop.approved(anOrder(), { twists: { dispatch: carrier.before } });
    await carrier.reached;
    const stale = {
      step: 'awaiting_approval',
      approved: false,
      child_attempts: 0,
      last_error: null,
      dispatch_failed_reason: null,
    } as const;
    expect(await createOrderStore(shop.db).end(order.id, { state: 'expired' }, stale)).toBe('owed');
    carrier.open();
    expect(await order.end()).toBe('shipped');
  });

  test('is settled by nobody while it lives: both give the money back, once', async () => {
    const [charge, refund] = [gate(), gate()];
    const order = await shop.approved(anOrder(), { twists: { charge: charge.after, refund: refund.before } });
    await charge.reached;
    const settling = await shop.env.client.workflow.start(SETTLE_WORKFLOW, {
      workflowId: settleWorkflowId(order.id),
      taskQueue: ORDERS_QUEUE,
      args: [{ order_id: order.id }],
    });
    await refund.reached;
    charge.open();
    await eventually(async () => ['payment_charged', 'shipping'].includes((await order.row()).state));
    refund.open();
    expect(await order.end()).toBe(await settling.result());
    expect(await shop.books(order.id)).toMatchObject({ charges: ['refunded'], parcel: { status: 'closed' } });
  });

  test('is not approved once its time to review is over, whatever else is still being decided', async () => {
    const holder = await createConnection(shop.databaseUrl);
    onTestFinished(() => holder.end());
    await holder.query('BEGIN');
    const order = await shop.place();
    await awaitingApproval(order);
    await holder.query('SELECT id FROM orders WHERE id = ? FOR UPDATE', [order.id]);
    const moved = order.update('address', [BOSTON]);
    await eventually(async () =>
      (await order.handle.fetchHistory()).events?.some((event) => event.timerFiredEventAttributes),
    );
    await expect(order.update('approve')).rejects.toMatchObject({ cause: { type: 'TOO_LATE' } });
    await holder.query('ROLLBACK');
    await moved;
    expect(await order.end()).toBe('expired');
  });

  test('is not shipped by a stranger before it is paid for', async () => {
    const order = await shop.place();
    await awaitingApproval(order);
    const stranger = await shop.env.client.workflow.start(SHIPPING_WORKFLOW, {
      workflowId: freshId('ship-stranger'),
      taskQueue: SHIPPING_QUEUE,
      args: [{ order: order.order, parent_workflow_id: 'nobody' }],
    });
    await expect(stranger.result()).rejects.toMatchObject({ cause: { type: 'CARRIER_CLOSED' } });
    await order.update('cancel');
    expect(await order.end()).toBe('canceled');
    expect((await shop.books(order.id)).parcel).toBeUndefined();
  });

  test('keeps an address that was changed while it was being validated', async () => {
    const order = await shop.place(anOrder(), { signal: 'update_address', signalArgs: [BOSTON] });
    await awaitingApproval(order);
    await order.update('approve');
    expect(await order.end()).toBe('shipped');
    expect((await order.row()).address).toEqual(BOSTON);
    expect((await shop.books(order.id)).parcel?.address).toEqual(BOSTON);
  });

  test('replays as it went when its address changes while it is being validated', async () => {
    const own = await ownShop({
      queues: [],
      clock: 'real',
      // Validating takes longer than changing the address, which injects no faults.
      flakyCall: () => sleep(Context.current().info.activityType === 'validate_order' ? 30 : 0),
    });
    const order = await own.place();
    const changed = order.update('address', [BOSTON]);
    const approved = order.update('approve');
    await own.work('orders', 'shipping');
    expect(await changed).toMatchObject({ changed: true });
    await approved;
    expect(await order.end()).toBe('shipped');
    expect(await own.wrongs()).toEqual([]);
  });

  test('takes no new address while a try that died may have handed the parcel over', async () => {
    const carrier = gate();
    const order = await shop.approved(anOrder(), {
      twists: { dispatch: carrier.afterFirst },
    });
    await carrier.reached;
    await shop.env.client.workflow.getHandle(shippingWorkflowId(order.id, 1)).terminate();
    await expect(order.update('address', [BOSTON])).rejects.toMatchObject({ cause: { type: 'TOO_LATE' } });
    carrier.open();
    expect(await order.end()).toBe('shipped');
    expect((await order.row()).address).toEqual((await shop.books(order.id)).parcel?.address);
  });
});

test('an order that is settled before it was charged leaves its card to others', async () => {
  const own = await ownShop({ clock: 'real' });
  const order = await own.place();
  await awaitingApproval(order);
  await order.handle.terminate();
  const settling = await own.env.client.workflow.start(SETTLE_WORKFLOW, {
    workflowId: settleWorkflowId(order.id),
    taskQueue: ORDERS_QUEUE,
    args: [{ order_id: order.id }],
  });
  expect(await settling.result()).toBe('failed');
  const next = await own.approved(anOrder({ payment_id: order.order.payment_id }));
  expect(await next.end()).toBe('shipped');
});

test('a cancel that was accepted outlives the run that accepted it', async () => {
  const own = await ownShop({ queues: [], clock: 'real' });
  const stop = await own.work('orders', 'shipping');
  const charge = gate();
  let away = true;
  const refund: Twist = (real) => (away ? Promise.reject(new Error('connection refused')) : real());
  const order = await own.approved(anOrder(), { twists: { charge: charge.after, refund } });
  await charge.reached;
  expect(await order.update('cancel', ['changed my mind'])).toMatchObject({ changed: true });
  charge.open();
  await eventually(async () => (await own.failures(order.id)).some(({ step }) => step === 'refund_payment'));
  await order.handle.terminate();
  // No activity of the run may be left to finish its work.
  await stop();
  away = false;
  await own.work('orders', 'shipping');
  const over = new AbortController();
  const views = createOrderViews(own.db);
  const sweeping = sweep({ client: own.patient, views, log, signal: over.signal });
  const row = await eventually(async () => isTerminal((await order.row()).state) && order.row(), 25_000);
  over.abort();
  await sweeping;
  expect(row).toMatchObject({ state: 'canceled', cancel_reason: 'changed my mind' });
  expect(await own.books(order.id)).toMatchObject({ charges: ['refunded'] });
});

test('a run that is reset to its beginning, its approval forgotten, gives the money back', async () => {
  const order = await shop.approved(anOrder(), { twists: { dispatch: hangs } });
  await shipping(order);
  const { client, namespace } = shop.env;
  await client.workflowService.resetWorkflowExecution({
    namespace: namespace ?? 'default',
    workflowExecution: { workflowId: order.handle.workflowId },
    workflowTaskFinishEventId: 4 as never,
    requestId: freshId(),
    // Signals and updates.
    resetReapplyExcludeTypes: [1, 2],
  });
  const reset = client.workflow.getHandle(order.handle.workflowId);
  expect(['expired', 'failed', 'shipped']).toContain(await reset.result());
  expect(await shop.wrongs().then((wrongs) => wrongs.filter((wrong) => typeof wrong === 'object'))).toEqual([]);
});

test('a shipment whose parent has no name fails like any other', async () => {
  const shipment = await shop.env.client.workflow.start(SHIPPING_WORKFLOW, {
    workflowId: freshId('ship-orphan'),
    taskQueue: SHIPPING_QUEUE,
    args: [{ order: null, parent_workflow_id: '' }],
  });
  await expect(shipment.result()).rejects.toMatchObject({ cause: { message: 'the argument is not a shipment' } });
});

test.each([
  null,
  'x',
  {},
  { order_id: '/' },
  { order_id: 'nobody-knows' },
])('settling %j settles nothing', async (input) => {
  const settling = await shop.env.client.workflow.start(SETTLE_WORKFLOW, {
    workflowId: freshId('settle'),
    taskQueue: ORDERS_QUEUE,
    args: [input],
  });
  // Nothing is JSON's null to a caller.
  expect(await settling.result()).toBeFalsy();
});
