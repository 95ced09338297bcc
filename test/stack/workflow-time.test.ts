/** What an order does about hangs, dead workers and the clock; on the dev server, side by side, because here time has to pass. */
import type { FailureReason } from '@trellis/contracts/lifecycle';
import { shippingWorkflowId } from '@trellis/contracts/temporal';
import { afterAll, describe, expect, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';
import {
  commitsThenHangs,
  expectTooLate,
  gate,
  hangs,
  openShop,
  ownShop,
  type PlacedOrder,
  type Twist,
} from '../workflow-fixture.ts';

const UNREACHABLE = { line1: '123 Main', city: 'Unreachable' };
/** The original's API gives its runs fifteen seconds; with fewer the same happens sooner. */
const SHORT = { workflowRunTimeout: '8s' } as const;

const shop = await openShop({ clock: 'real' });
const shippingIsDown = await openShop({ clock: 'real', queues: ['orders'] });
const shops = [shop, shippingIsDown];
afterAll(() => Promise.all(shops.map((one) => one.close())));

describe.concurrent('an order whose time runs out', () => {
  test('because no shipping worker lives fails with its money back within 15 s', async ({ expect }) => {
    const order = await shippingIsDown.approved();
    expect(await order.end()).toBe('failed');
    expect(await order.lasted()).toBeLessThanOrEqual(15_000);
    expect(await order.view()).toMatchObject(refundedFor('DEADLINE'));
  });

  test('ends before the timeout that its caller gave the run', async ({ expect }) => {
    const order = await shippingIsDown.approved(anOrder(), SHORT);
    expect(await order.end()).toBe('failed');
    expect(await order.lasted()).toBeLessThan(8_000);
    expect(await order.view()).toMatchObject(refundedFor('DEADLINE'));
  });

  test('before it began, by its caller’s timeout, never touches the card', async ({ expect }) => {
    const order = await shop.place(anOrder(), { workflowRunTimeout: '3s', signal: 'approve' });
    expect(await order.end()).toBe('failed');
    expect(await order.view()).toMatchObject({ reason: 'DEADLINE', payments: [], shipments: [] });
  });

  test('while the carrier hangs fails with its money back', async ({ expect }) => {
    const order = await shop.approved(anOrder(), { ...SHORT, twists: { dispatch: hangs } });
    expect(await order.end()).toBe('failed');
    expect(await order.view()).toMatchObject(refundedFor('DEADLINE'));
    expect(await shop.books(order.id)).toMatchObject({ parcel: { status: 'closed' } });
  });

  test('while the carrier hangs, but has taken the parcel, has shipped', async ({ expect }) => {
    const order = await shop.approved(anOrder(), { ...SHORT, twists: { dispatch: commitsThenHangs } });
    expect(await order.end()).toBe('shipped');
    expect(await shop.books(order.id)).toMatchObject({ charges: ['charged'], parcel: { status: 'taken' } });
  });

  test('while its charge hangs fails, and the charge that wakes later is refused', async ({ expect }) => {
    const charge = gate();
    const order = await shop.approved(anOrder(), { ...SHORT, twists: { charge: charge.before } });
    expect(await order.end()).toBe('failed');
    expect(await order.view()).toMatchObject({ reason: 'DEADLINE', payments: [{ status: 'failed' }] });
    charge.open();
    expect(await charge.answered).toBe('closed');
    expect(await shop.books(order.id)).toMatchObject({ charges: ['closed'] });
  });

  test('for a try while a cancel is being decided ends canceled', async ({ expect }) => {
    const close = gate();
    const order = await shop.approved(anOrder(), { ...SHORT, twists: { dispatch: hangs, close: close.before } });
    await eventually(async () => (await order.status()).child_attempts > 0);
    const answer = order.update('cancel', ['too slow']);
    await close.reached;
    await eventually(async () => (await order.status()).dispatch_failed_reason);
    close.open();
    expect(await answer).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ cancel_reason: 'too slow' });
  });

  test('before the payment company gives the money back goes on until it has', async ({ expect }) => {
    const giveBackAt = Date.now() + 16_000;
    const away: Twist = async (real) => {
      if (Date.now() < giveBackAt) throw new Error('the company is away');
      return real();
    };
    const charge = gate();
    const order = await shop.approved(anOrder(), { twists: { charge: charge.after, refund: away } });
    await charge.reached;
    await order.update('cancel');
    expect(await order.end()).toBe('canceled');
    expect(await order.lasted()).toBeGreaterThan(15_000);
    expect(await shop.books(order.id)).toMatchObject({ charges: ['refunded'] });
  });

  test('because the carrier refuses for ever has tried three times or more and gets its money back', async ({
    expect,
  }) => {
    const refund = gate();
    const order = await shop.approved(anOrder({ address: UNREACHABLE }), {
      ...SHORT,
      twists: { refund: refund.before },
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

  test('as the exercise gives it 15 s is refused by the carrier again and again until then', async ({ expect }) => {
    const order = await shop.approved(anOrder({ address: UNREACHABLE }));
    expect(await order.end()).toBe('failed');
    expect(await order.lasted()).toBeLessThanOrEqual(15_000);
    expect(await order.lasted()).toBeGreaterThan(9_000);
    expect(await order.view()).toMatchObject(refundedFor('CARRIER_REFUSED'));
  });
});

describe.concurrent('a try that was terminated from outside', () => {
  test('is a failed one, and the next try ships', async ({ expect }) => {
    const { order } = await shippedBySecondTry();
    expect(await tries(order)).toEqual(['1 failed', '2 dispatched']);
  });

  test('stays a failed one when its frozen worker wakes later: the parcel left once', async ({ expect }) => {
    const { order, first } = await shippedBySecondTry();
    first.open();
    expect(await first.answered).toMatchObject({ outcome: 'taken' });
    await shop.quiet();
    expect(await tries(order)).toEqual(['1 failed', '2 dispatched']);
  });

  async function shippedBySecondTry() {
    const first = gate();
    const order = await shop.approved(anOrder(), {
      twists: { dispatch: (real, call) => (call === 1 ? first.before(real, call) : real()) },
    });
    await first.reached;
    await shop.env.client.workflow.getHandle(shippingWorkflowId(order.id, 1)).terminate('from outside');
    expect(await order.end()).toBe('shipped');
    return { order, first };
  }
});

test('an approval recorded within the window counts, although no worker saw it in time', async () => {
  const own = await ownShop({ clock: 'real', queues: ['shipping'] });
  const stopOrders = await own.work('orders');
  const order = await own.place();
  await order.status();
  await stopOrders();
  await order.signal('approve');
  await eventually(async () => {
    const { events } = await order.handle.fetchHistory();
    return events?.some((event) => event.timerFiredEventAttributes);
  });
  await own.work('orders');
  expect(await order.end()).toBe('shipped');
  expect(await own.wrongs()).toEqual([]);
});

test('and when all is over the books agree', async () => {
  for (const one of shops) expect(await one.wrongs()).toEqual([]);
});

const refundedFor = (reason: FailureReason) => ({
  state: 'failed',
  reason,
  payments: [{ status: 'refunded', amount: '2.00' }],
});

const tries = async (order: PlacedOrder): Promise<string[]> =>
  (await order.view()).shipments.map(({ attempt, status }) => `${attempt} ${status}`);
