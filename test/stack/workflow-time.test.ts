/** Deadlines, calls that hang and missing workers: on the dev server and concurrently, because real time must pass. */
import type { FailureReason } from '@trellis/contracts/states-and-steps';
import { shippingWorkflowId } from '@trellis/contracts/temporal';
import { afterAll, describe, expect, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';
import {
  awaitingApproval,
  commitsThenHangs,
  expectTooLate,
  type Fault,
  gate,
  hangs,
  openTestbed,
  ownTestbed,
  type PlacedOrder,
} from '../workflow-fixture.ts';

const UNREACHABLE = { line1: '123 Main', city: 'Unreachable' };
/** The original's API sets a run timeout of fifteen seconds; a shorter one shortens the test. */
const SHORT = { workflowRunTimeout: '8s' } as const;

const bed = await openTestbed({ clock: 'real' });
const shippingIsDown = await openTestbed({ clock: 'real', queues: ['orders'] });
const beds = [bed, shippingIsDown];
afterAll(() => Promise.all(beds.map(({ close }) => close())));

describe.concurrent('an order whose deadline passes', () => {
  test('because no shipping worker runs ends failed and refunded within 15 s', async ({ expect }) => {
    const order = await shippingIsDown.placeApproved();
    expect(await order.end()).toBe('failed');
    expect(await order.duration()).toBeLessThanOrEqual(15_000);
    expect(await order.view()).toMatchObject(refundedFor('DEADLINE'));
  });

  test('ends before the run timeout that its caller set', async ({ expect }) => {
    const order = await shippingIsDown.placeApproved(anOrder(), SHORT);
    expect(await order.end()).toBe('failed');
    expect(await order.duration()).toBeLessThan(8_000);
    expect(await order.view()).toMatchObject(refundedFor('DEADLINE'));
  });

  test('before it begins, because of its caller’s run timeout, is never charged', async ({ expect }) => {
    const order = await bed.place(anOrder(), { workflowRunTimeout: '3s', signal: 'approve' });
    expect(await order.end()).toBe('failed');
    expect(await order.view()).toMatchObject({ reason: 'DEADLINE', payments: [], shipments: [] });
  });

  test('while the carrier hangs ends failed and refunded', async ({ expect }) => {
    const order = await bed.placeApproved(anOrder(), { ...SHORT, faults: { dispatch: hangs } });
    expect(await order.end()).toBe('failed');
    expect(await order.view()).toMatchObject(refundedFor('DEADLINE'));
    expect(await bed.books(order.id)).toMatchObject({ parcel: { status: 'closed' } });
  });

  test('while the carrier hangs after taking the parcel ends shipped', async ({ expect }) => {
    const order = await bed.placeApproved(anOrder(), { ...SHORT, faults: { dispatch: commitsThenHangs } });
    expect(await order.end()).toBe('shipped');
    expect(await bed.books(order.id)).toMatchObject({ charges: ['charged'], parcel: { status: 'taken' } });
  });

  test('while its charge hangs ends failed, and the late charge is refused', async ({ expect }) => {
    const charge = gate();
    const order = await bed.placeApproved(anOrder(), { ...SHORT, faults: { charge: charge.before } });
    expect(await order.end()).toBe('failed');
    expect(await order.view()).toMatchObject({ reason: 'DEADLINE', payments: [{ status: 'failed' }] });
    charge.open();
    expect(await charge.answered).toBe('closed');
    expect(await bed.books(order.id)).toMatchObject({ charges: ['closed'] });
  });

  test('during a shipping attempt while a cancel is being decided ends canceled', async ({ expect }) => {
    const close = gate();
    const order = await bed.placeApproved(anOrder(), { ...SHORT, faults: { dispatch: hangs, close: close.before } });
    await eventually(async () => (await order.status()).child_attempts > 0);
    const answer = order.update('cancel', ['too slow']);
    await close.reached;
    await eventually(async () => (await order.status()).dispatch_failed_reason);
    close.open();
    expect(await answer).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ cancel_reason: 'too slow' });
  });

  test('while the payment company is down continues until the refund is done', async ({ expect }) => {
    const upAgainAt = Date.now() + 16_000;
    const isDown: Fault = async (real) => {
      if (Date.now() < upAgainAt) throw new Error('the payment company is down');
      return real();
    };
    const charge = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.after, refund: isDown } });
    await charge.reached;
    await order.update('cancel');
    expect(await order.end()).toBe('canceled');
    expect(await order.duration()).toBeGreaterThan(15_000);
    expect(await bed.books(order.id)).toMatchObject({ charges: ['refunded'] });
  });

  test('because the carrier always refuses ends failed and refunded after at least three shipping attempts', async ({
    expect,
  }) => {
    const refund = gate();
    const order = await bed.placeApproved(anOrder({ address: UNREACHABLE }), {
      ...SHORT,
      faults: { refund: refund.before },
    });
    await refund.reached;
    await expectTooLate(order, 'cancel', 'approve', 'address');
    refund.open();
    expect(await order.end()).toBe('failed');
    expect(await order.view()).toMatchObject(refundedFor('CARRIER_REFUSED'));
    expect(await order.row()).toMatchObject({
      step: 'shipping_child',
      dispatch_failed_reason: expect.stringContaining('Unreachable'),
    });
    const { shipments } = await order.view();
    expect(shipments.length).toBeGreaterThanOrEqual(3);
    expect(new Set(shipments.map(({ status }) => status))).toEqual(new Set(['failed']));
  });

  test('under the exercise policy makes shipping attempts until little of its 15 s is left', async ({ expect }) => {
    const order = await bed.placeApproved(anOrder({ address: UNREACHABLE }));
    expect(await order.end()).toBe('failed');
    expect(await order.duration()).toBeLessThanOrEqual(15_000);
    expect(await order.duration()).toBeGreaterThan(9_000);
    expect(await order.view()).toMatchObject(refundedFor('CARRIER_REFUSED'));
  });
});

describe.concurrent('a shipping attempt terminated from outside', () => {
  test('counts as failed, and the next one ships', async ({ expect }) => {
    const { order } = await shippedBySecondAttempt();
    expect(await attempts(order)).toEqual(['1 failed', '2 dispatched']);
  });

  test('stays failed when its stalled worker continues later, and one parcel is shipped', async ({ expect }) => {
    const { order, first } = await shippedBySecondAttempt();
    first.open();
    expect(await first.answered).toMatchObject({ outcome: 'taken' });
    await bed.transactionsSettled();
    expect(await attempts(order)).toEqual(['1 failed', '2 dispatched']);
  });

  async function shippedBySecondAttempt() {
    const first = gate();
    const order = await bed.placeApproved(anOrder(), {
      faults: { dispatch: (real, call) => (call === 1 ? first.before(real, call) : real()) },
    });
    await first.reached;
    await bed.env.client.workflow.getHandle(shippingWorkflowId(order.id, 1)).terminate('from outside');
    expect(await order.end()).toBe('shipped');
    return { order, first };
  }
});

test('an approval recorded within the window counts, although no worker processed it in time', async () => {
  const own = await ownTestbed({ clock: 'real', queues: ['shipping'] });
  const stopOrders = await own.startWorkers('orders');
  const order = await own.place();
  await awaitingApproval(order);
  await stopOrders();
  await order.signal('approve');
  await eventually(async () => {
    const { events } = await order.handle.fetchHistory();
    return events?.some((event) => event.timerFiredEventAttributes);
  });
  await own.startWorkers('orders');
  expect(await order.end()).toBe('shipped');
  expect(await own.violations()).toEqual([]);
});

test('the orders of this file leave no violation', async () => {
  for (const one of beds) expect(await one.violations()).toEqual([]);
});

const refundedFor = (reason: FailureReason) => ({
  state: 'failed',
  reason,
  payments: [{ status: 'refunded', amount: '2.00' }],
});

const attempts = async (order: PlacedOrder): Promise<string[]> =>
  (await order.view()).shipments.map(({ attempt, status }) => `${attempt} ${status}`);
