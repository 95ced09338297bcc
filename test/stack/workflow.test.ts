/** An order from its start to its end: approval, expiry, policies, second runs, invalid arguments. */
import type { StartInput } from '@trellis/contracts/order';
import { POLICIES } from '@trellis/contracts/policy';
import { flaky_call } from '@trellis/workers/activities/flaky-call';
import { describe, expect, test } from 'vitest';
import { anOrder, freshId, HAPPY_EVENTS, seeded } from '../fixtures.ts';
import { awaitingApproval, gate, ownTestbed, sharedTestbed } from '../workflow-fixture.ts';

const bed = await sharedTestbed();

const HOUR = 3_600_000;

describe('an approved order', () => {
  test('is charged once and shipped once, and SQL shows each state on the way', async () => {
    const [charge, dispatch] = [gate(), gate()];
    const order = await bed.place(anOrder(), { faults: { charge: charge.before, dispatch: dispatch.before } });
    await awaitingApproval(order);
    expect(await order.view()).toMatchObject({ state: 'awaiting_approval', amount: '2.00', payments: [] });

    await order.update('approve');
    await charge.reached;
    expect(await order.view()).toMatchObject({ state: 'approved', payments: [{ status: 'pending' }], shipments: [] });

    charge.open();
    await dispatch.reached;
    expect(await order.view()).toMatchObject({
      state: 'shipping',
      payments: [{ payment_id: order.order.payment_id, status: 'charged', amount: '2.00', currency: 'USD' }],
      shipments: [{ attempt: 1, status: 'prepared' }],
    });

    dispatch.open();
    expect(await order.end()).toBe('shipped');
    expect(await order.view()).toMatchObject({ state: 'shipped', shipments: [{ attempt: 1, status: 'dispatched' }] });
    expect(await order.events()).toEqual(HAPPY_EVENTS);
    expect(await bed.books(order.id)).toMatchObject({ charges: ['charged'], parcel: { status: 'taken' } });
  });

  test('answers the status query while it waits and after it has shipped', async () => {
    const order = await bed.place();
    const waiting = {
      order_id: order.id,
      state: 'awaiting_approval',
      step: 'awaiting_approval',
      approved: false,
      canceled: false,
      cancel_reason: null,
      child_attempts: 0,
      last_error: null,
      dispatch_failed_reason: null,
      reason: null,
    };
    expect(await order.status()).toEqual(waiting);
    expect(await order.update('approve')).toEqual({ command: 'approve', state: 'approved', changed: true });
    await order.end();
    expect(await order.status()).toEqual({
      ...waiting,
      state: 'shipped',
      step: 'done',
      approved: true,
      child_attempts: 1,
    });
  });

  test('ships after an approval by signal', async () => {
    const order = await bed.place();
    await order.signal('approve');
    expect(await order.end()).toBe('shipped');
    expect(await order.events()).toEqual(HAPPY_EVENTS);
  });

  test('ships although its activities fail or hang two times in three, and its failed attempts are recorded', async () => {
    const random = seeded(7);
    const own = await ownTestbed({ flakyCall: () => flaky_call(random) });
    const order = await own.place(anOrder(), { signal: 'approve' });
    expect(await order.end()).toBe('shipped');
    expect(await own.violations()).toEqual([]);
    const errors = await own.failedAttempts(order.id);
    expect(errors).toContainEqual(expect.objectContaining({ error: 'Forced failure for testing' }));
    expect(errors).toContainEqual(expect.objectContaining({ error: expect.stringContaining('hung') }));
  });
});

describe('an approval', () => {
  test('before the first workflow task is kept', async () => {
    const own = await ownTestbed({ queues: [] });
    const withStart = await own.place(anOrder(), { signal: 'approve', client: own.realTimeClient });
    const afterStart = await own.place(anOrder(), { client: own.realTimeClient });
    await afterStart.signal('approve');
    await own.startWorkers('orders', 'shipping');
    expect(await Promise.all([withStart.end(), afterStart.end()])).toEqual(['shipped', 'shipped']);
    expect(await own.violations()).toEqual([]);
  });

  test('that never comes lets the order expire without a charge', async () => {
    const order = await bed.place();
    expect(await order.end()).toBe('expired');
    expect(await order.duration()).toBeGreaterThanOrEqual(POLICIES.exercise.review_ms);
    expect(await order.duration()).toBeLessThan(15_000);
    expect(await order.view()).toMatchObject({ state: 'expired', payments: [], shipments: [] });
    expect(await order.events()).toEqual(['order_received', 'order_validated', 'order_expired']);
    expect(await order.status()).toMatchObject({ step: 'awaiting_approval', approved: false });
    expect(await bed.books(order.id)).toEqual({ charges: [], parcel: undefined });
  });
});

describe('the production policy', () => {
  test('allows a day for the approval', async () => {
    const own = await ownTestbed({});
    const given = anOrder();
    const order = await own.place(given, { args: [{ ...given, policy: 'production' }] });
    await awaitingApproval(order);
    await own.env.sleep(23 * HOUR);
    expect(await order.update('approve')).toMatchObject({ state: 'approved' });
    expect(await order.end()).toBe('shipped');
    expect(await own.violations()).toEqual([]);
  });

  test('expires an order that is not approved within a day', async () => {
    const own = await ownTestbed({});
    const given = anOrder();
    const order = await own.place(given, { args: [{ ...given, policy: 'production' }] });
    expect(await order.end()).toBe('expired');
    expect(await order.duration()).toBeGreaterThanOrEqual(24 * HOUR);
    expect(await own.violations()).toEqual([]);
  });
});

describe('a second run of an order', () => {
  test('changes nothing after the first has completed, and returns the recorded state', async () => {
    const first = await bed.placeApproved();
    await first.end();
    const before = await first.view();
    const second = await bed.place({ ...first.order, items: [{ sku: 'XYZ', qty: 9 }] }, { signal: 'cancel_order' });
    expect(await second.end()).toBe('shipped');
    expect(await first.view()).toEqual(before);
  });

  test('changes nothing while the first is running', async () => {
    const first = await bed.place();
    await awaitingApproval(first);
    const second = await bed.place(first.order, { workflowId: freshId('another'), client: bed.realTimeClient });
    expect(await second.end()).toBe('awaiting_approval');
    await first.update('approve');
    expect(await first.end()).toBe('shipped');
    expect(await first.events()).toEqual(HAPPY_EVENTS);
  });
});

describe('an invalid argument ends the order failed with INVALID_ORDER:', () => {
  const cases: [string, (order: StartInput) => unknown[]][] = [
    ['none', () => []],
    ['null', () => [null]],
    ['a string', () => ['order']],
    ['a number', () => [42]],
    ['a list', (order) => [[order]]],
    ['an empty object', () => [{}]],
    ['a null address', (order) => [{ ...order, address: null }]],
    ['null items', (order) => [{ ...order, items: null }]],
    ['no items', (order) => [{ ...order, items: [] }]],
    ['wrong types', () => [{ order_id: 7, payment_id: {}, address: 'here', items: 'ABC', policy: [] }]],
    ['no payment id', ({ payment_id: _, ...order }) => [order]],
    ['a payment id with a slash', (order) => [{ ...order, payment_id: 'a/b' }]],
    ['an order id with a slash', (order) => [{ ...order, order_id: '../x' }]],
    ['a huge quantity', (order) => [{ ...order, items: [{ sku: 'ABC', qty: 1e300 }] }]],
    ['a fractional quantity', (order) => [{ ...order, items: [{ sku: 'ABC', qty: 0.5 }] }]],
    ['an address without a city', (order) => [{ ...order, address: { line1: '123 Main' } }]],
    ['an address nested deeper than SQL stores', (order) => [{ ...order, address: nested(50) }]],
    ['lone surrogates and a null character', (order) => [{ ...order, address: '\ud800', items: '\u0000' }]],
  ];
  test.each(cases)(
    '%s',
    async (_name, argumentsOf) => {
      const order = anOrder();
      const placed = await bed.place(order, { args: argumentsOf(order) });
      expect(await placed.end()).toBe('failed');
      expect(await placed.row()).toMatchObject({ state: 'failed', reason: 'INVALID_ORDER', step: 'validate_order' });
      expect(await placed.view()).toMatchObject({ payments: [], shipments: [] });
      expect(await placed.events()).toEqual(['order_received', 'order_failed']);
    },
    10_000,
  );

  test('but unusual characters that the schema allows do not, and the order ships', async () => {
    const address = { line1: '\u0000 \ud83d\ude00 "\\', city: 'Zürich' };
    const order = await bed.placeApproved(anOrder({ address }));
    expect(await order.end()).toBe('shipped');
  }, 10_000);

  test('without a usable id the run fails and writes no row', async () => {
    const order = await bed.place(anOrder(), { args: [null], workflowId: `not an order ${freshId()}` });
    expect(await order.end()).toBe('failed');
    await expect(order.row()).rejects.toThrow('no row');
  });
});

function nested(depth: number): unknown {
  return depth === 0 ? 'deep' : { deeper: nested(depth - 1) };
}
