/** Stalled workers, runs terminated or reset by operators, and workflows started by other callers. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import {
  ORDERS_QUEUE,
  SETTLE_WORKFLOW,
  SHIPPING_QUEUE,
  SHIPPING_WORKFLOW,
  settleWorkflowId,
  shippingWorkflowId,
} from '@trellis/contracts/temporal';
import { createOpenOrders } from '@trellis/drizzle/open-orders';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { sweep } from '@trellis/workers/jobs/sweep';
import { createConnection } from 'mysql2/promise';
import { afterAll, afterEach, describe, expect, onTestFinished, test } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import {
  awaitingApproval,
  type Fault,
  gate,
  hangs,
  log,
  openTestbed,
  ownTestbed,
  type PlacedOrder,
} from '../workflow-fixture.ts';

const bed = await openTestbed({ clock: 'real' });
afterAll(() => bed.close());

const ELM = { line1: '9 Elm', city: 'Chicago' };
const BOSTON = { line1: '2 Birch', city: 'Boston' };
const shipping = (order: PlacedOrder) => eventually(async () => (await order.status()).child_attempts > 0);

describe('adversarial timing never leaves money or parcel behind', () => {
  afterEach(async () => expect(await bed.violations()).toEqual([]));

  test('a stalled worker with outdated progress does not end an approved order', async () => {
    const carrier = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { dispatch: carrier.before } });
    await carrier.reached;
    const stale = {
      step: 'awaiting_approval',
      approved: false,
      child_attempts: 0,
      last_error: null,
      dispatch_failed_reason: null,
    } as const;
    expect(await createOrderStore(bed.db).end(order.id, { state: 'expired' }, stale)).toBe('owed');
    carrier.open();
    expect(await order.end()).toBe('shipped');
  });

  test('an approval after the review window is refused, also while an address change is being decided', async () => {
    const holder = await createConnection(bed.databaseUrl);
    onTestFinished(() => holder.end());
    await holder.query('BEGIN');
    const order = await bed.place();
    await awaitingApproval(order);
    await holder.query('SELECT id FROM orders WHERE id = ? FOR UPDATE', [order.id]);
    const changed = order.update('address', [BOSTON]);
    await eventually(async () =>
      (await order.handle.fetchHistory()).events?.some((event) => event.timerFiredEventAttributes),
    );
    await expect(order.update('approve')).rejects.toMatchObject({ cause: { type: 'TOO_LATE' } });
    await holder.query('ROLLBACK');
    await changed;
    expect(await order.end()).toBe('expired');
  });

  test('a ShippingWorkflow that another caller starts ships no unpaid order', async () => {
    const order = await bed.place();
    await awaitingApproval(order);
    const stranger = await bed.env.client.workflow.start(SHIPPING_WORKFLOW, {
      workflowId: freshId('ship-stranger'),
      taskQueue: SHIPPING_QUEUE,
      args: [{ order: order.order, parent_workflow_id: 'nobody' }],
    });
    await expect(stranger.result()).rejects.toMatchObject({ cause: { type: 'CARRIER_CLOSED' } });
    await order.update('cancel');
    expect(await order.end()).toBe('canceled');
    expect((await bed.books(order.id)).parcel).toBeUndefined();
  });

  test('an address changed during the validation is where the parcel goes', async () => {
    const order = await bed.place(anOrder(), { signal: 'update_address', signalArgs: [BOSTON] });
    await awaitingApproval(order);
    await order.update('approve');
    expect(await order.end()).toBe('shipped');
    expect((await order.row()).address).toEqual(BOSTON);
    expect((await bed.books(order.id)).parcel?.address).toEqual(BOSTON);
  });

  test('address changes that a lost worker applied in another order leave the parcel with the address of the order', async () => {
    const order = await bed.place();
    await awaitingApproval(order);
    await createOrderStore(bed.db).changeAddress(order.id, ELM, 'applied-before');
    await order.update('address', [BOSTON]);
    await order.signal('address', ELM, 'applied-before');
    await order.update('approve');
    expect(await order.end()).toBe('shipped');
    expect((await order.row()).address).toEqual(BOSTON);
    expect((await bed.books(order.id)).parcel?.address).toEqual(BOSTON);
  });

  test('a ShippingWorkflow that another caller starts with another address ships to the order’s', async () => {
    const carrier = gate();
    const workflowId = freshId('ship-stranger');
    const isStranger = () => Context.current().info.workflowExecution?.workflowId === workflowId;
    const dispatch: Fault = (real, call) => (isStranger() ? real() : carrier.before(real, call));
    const order = await bed.placeApproved(anOrder(), { faults: { dispatch } });
    await carrier.reached;
    const stranger = await bed.env.client.workflow.start(SHIPPING_WORKFLOW, {
      workflowId,
      taskQueue: SHIPPING_QUEUE,
      args: [{ order: { ...order.order, address: ELM }, parent_workflow_id: 'nobody', call_in_task_ms: 0 }],
    });
    await stranger.result();
    expect((await bed.books(order.id)).parcel?.address).toEqual(order.order.address);
    carrier.open();
    expect(await order.end()).toBe('shipped');
  });

  test('a history with an address change during the validation replays', async () => {
    const own = await ownTestbed({
      queues: [],
      clock: 'real',
      // The validation takes longer than the address change.
      flakyCall: () => sleep(Context.current().info.activityType === 'validate_order' ? 30 : 0),
    });
    const order = await own.place();
    const changed = order.update('address', [BOSTON]);
    const approved = order.update('approve');
    await own.startWorkers('orders', 'shipping');
    expect(await changed).toMatchObject({ changed: true });
    await approved;
    expect(await order.end()).toBe('shipped');
    expect(await own.violations()).toEqual([]);
  });

  test('a terminated shipping attempt that may have handed over the parcel makes an address change TOO_LATE', async () => {
    const carrier = gate();
    const order = await bed.placeApproved(anOrder(), {
      faults: { dispatch: carrier.afterFirst },
    });
    await carrier.reached;
    await bed.env.client.workflow.getHandle(shippingWorkflowId(order.id, 1)).terminate();
    await expect(order.update('address', [BOSTON])).rejects.toMatchObject({ cause: { type: 'TOO_LATE' } });
    carrier.open();
    expect(await order.end()).toBe('shipped');
    expect((await order.row()).address).toEqual((await bed.books(order.id)).parcel?.address);
  });
});

test('an order settled before its charge leaves its payment id to another order', async () => {
  const own = await ownTestbed({ clock: 'real' });
  const order = await own.place();
  await awaitingApproval(order);
  await order.handle.terminate();
  const settling = await own.env.client.workflow.start(SETTLE_WORKFLOW, {
    workflowId: settleWorkflowId(order.id),
    taskQueue: ORDERS_QUEUE,
    args: [{ order_id: order.id }],
  });
  expect(await settling.result()).toBe('failed');
  const next = await own.placeApproved(anOrder({ payment_id: order.order.payment_id }));
  expect(await next.end()).toBe('shipped');
});

test('an accepted cancel ends the order canceled, also after its run was terminated', async () => {
  const own = await ownTestbed({ queues: [], clock: 'real' });
  const stop = await own.startWorkers('orders', 'shipping');
  const charge = gate();
  let down = true;
  const refund: Fault = (real) => (down ? Promise.reject(new Error('connection refused')) : real());
  const order = await own.placeApproved(anOrder(), { faults: { charge: charge.after, refund } });
  await charge.reached;
  expect(await order.update('cancel', ['changed my mind'])).toMatchObject({ changed: true });
  charge.open();
  await eventually(async () => (await own.failedAttempts(order.id)).some(({ step }) => step === 'refund_payment'));
  await order.handle.terminate();
  // Ends the activities of the terminated run.
  await stop();
  down = false;
  await own.startWorkers('orders', 'shipping');
  const over = new AbortController();
  const views = createOrderViews(own.db);
  const sweeping = sweep({
    client: own.realTimeClient,
    views,
    openOrders: createOpenOrders(own.db),
    log,
    signal: over.signal,
  });
  const row = await eventually(async () => isTerminal((await order.row()).state) && order.row(), 25_000);
  over.abort();
  await sweeping;
  expect(row).toMatchObject({ state: 'canceled', cancel_reason: 'changed my mind' });
  expect(await own.books(order.id)).toMatchObject({ charges: ['refunded'] });
});

test('a run that is reset to its beginning, without its approval, leaves the books in balance', async () => {
  const order = await bed.placeApproved(anOrder(), { faults: { dispatch: hangs } });
  await shipping(order);
  const { client, namespace } = bed.env;
  await client.workflowService.resetWorkflowExecution({
    namespace: namespace ?? 'default',
    workflowExecution: { workflowId: order.handle.workflowId },
    workflowTaskFinishEventId: 4 as never,
    requestId: freshId(),
    // 1 is signals, 2 is updates.
    resetReapplyExcludeTypes: [1, 2],
  });
  const reset = client.workflow.getHandle(order.handle.workflowId);
  expect(['expired', 'failed', 'shipped']).toContain(await reset.result());
  expect(
    await bed.violations().then((violations) => violations.filter((violation) => typeof violation === 'object')),
  ).toEqual([]);
});

test('when an order whose run was terminated is settled while its charge is under way, the charge is refunded once', async () => {
  const [charge, refund] = [gate(), gate()];
  const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.after, refund: refund.before } });
  await charge.reached;
  await order.handle.terminate();
  const settling = await bed.env.client.workflow.start(SETTLE_WORKFLOW, {
    workflowId: settleWorkflowId(order.id),
    taskQueue: ORDERS_QUEUE,
    args: [{ order_id: order.id }],
  });
  await refund.reached;
  charge.open();
  await eventually(async () => (await order.row()).state === 'payment_charged');
  refund.open();
  expect(await settling.result()).toBe('failed');
  expect(await bed.books(order.id)).toMatchObject({ charges: ['refunded'], parcel: { status: 'closed' } });
  expect(
    await bed.violations().then((violations) => violations.filter((violation) => typeof violation === 'object')),
  ).toEqual([]);
});

test('a shipment with an empty parent id fails as invalid', async () => {
  const shipment = await bed.env.client.workflow.start(SHIPPING_WORKFLOW, {
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
  { order_id: 'unknown-order' },
])('settling %j changes nothing', async (input) => {
  const settling = await bed.env.client.workflow.start(SETTLE_WORKFLOW, {
    workflowId: freshId('settle'),
    taskQueue: ORDERS_QUEUE,
    args: [input],
  });
  // A result of undefined reaches the caller as null.
  expect(await settling.result()).toBeFalsy();
});
