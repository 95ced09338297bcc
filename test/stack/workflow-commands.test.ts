/** What people ask of a running order, by update or by signal, and what they are answered. */

import type { CommandAnswer } from '@trellis/contracts/command';
import type { StartInput } from '@trellis/contracts/order';
import { describe, expect, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';
import { expectTooLate, gate, type PlacedOrder, refusal, sharedShop } from '../workflow-fixture.ts';

const shop = await sharedShop();

const UNREACHABLE = { line1: '123 Main', city: 'Unreachable' };
const REACHABLE = { line1: '9 Elm', city: 'Boston' };
const MALFORMED: [string, unknown[]][] = [
  ['nothing', []],
  ['null', [null]],
  ['a number', [42]],
  ['an object', [{ reason: 'x' }]],
  ['a list', [['x']]],
  ['no text', ['']],
];

describe('approve', () => {
  test('again changes nothing', async () => {
    const order = await shop.approved();
    expect(await order.update('approve')).toMatchObject({ changed: false });
    expect(await order.end()).toBe('shipped');
    expect((await order.events())?.filter((type) => type === 'order_approved')).toHaveLength(1);
  });

  test('under an id that came as a signal before gets the first answer', async () => {
    const order = await shop.place();
    await order.signal('approve', 'approve-1');
    expect(await order.update('approve', [], 'approve-1')).toMatchObject({ changed: true });
    expect(await order.update('approve', [], 'approve-2')).toMatchObject({ changed: false });
    expect(await order.end()).toBe('shipped');
  });
});

describe('cancel', () => {
  test('before the approval ends the order without touching the card', async () => {
    const order = await shop.place();
    expect(await order.update('cancel')).toMatchObject({ command: 'cancel', changed: true });
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ state: 'canceled', cancel_reason: 'user_request' });
    expect(await order.view()).toMatchObject({ payments: [], shipments: [] });
    expect(await order.events()).toEqual(['order_received', 'order_validated', 'order_canceled']);
    expect(await shop.books(order.id)).toEqual({ charges: [], parcel: undefined });
  });

  test('before the first workflow task is kept', async () => {
    const order = await shop.place(anOrder(), { signal: 'cancel_order', signalArgs: ['changed my mind'] });
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ cancel_reason: 'changed my mind' });
  });

  test('while a charge is on its way closes the key, so the late charge is refused', async () => {
    const charge = gate();
    const order = await shop.approved(anOrder(), { twists: { charge: charge.before } });
    await charge.reached;
    expect(await order.update('cancel')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    charge.open();
    expect(await charge.answered).toBe('closed');
    expect(await shop.books(order.id)).toMatchObject({ charges: ['closed'], parcel: { status: 'closed' } });
    expect(await order.view()).toMatchObject({ payments: [{ status: 'failed' }] });
    expect(await order.events()).not.toContain('payment_charged');
  });

  test('while the answer of a charge is on its way gives the money back', async () => {
    const charge = gate();
    const order = await shop.approved(anOrder(), { twists: { charge: charge.after } });
    await charge.reached;
    expect(await order.update('cancel')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    expect(await shop.books(order.id)).toMatchObject({ charges: ['refunded'] });
    expect(await order.view()).toMatchObject({ payments: [{ status: 'refunded', amount: '2.00' }] });
    expect((await order.events())?.slice(-3)).toEqual(['payment_charged', 'payment_refunded', 'order_canceled']);
  });

  test('accepted before the card is declined still ends canceled', async () => {
    const charge = gate();
    const given = anOrder();
    const order = await shop.approved(
      { ...given, payment_id: `declined-${given.order_id}` },
      { twists: { charge: charge.after } },
    );
    await charge.reached;
    await order.update('cancel', ['too slow']);
    charge.open();
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ reason: null, cancel_reason: 'too slow' });
    expect(await order.view()).toMatchObject({ payments: [{ status: 'failed' }] });
  });

  test('between two tries to ship closes the carrier’s key and gives the money back', async () => {
    const order = await refusedByCarrier();
    expect(await order.update('cancel')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    expect(await shop.books(order.id)).toMatchObject({ charges: ['refunded'], parcel: { status: 'closed' } });
  });

  test('while a parcel is on its way to the carrier closes the key, so the late parcel is refused', async () => {
    const dispatch = gate();
    const order = await shop.approved(anOrder(), { twists: { dispatch: dispatch.before } });
    await dispatch.reached;
    expect(await order.update('cancel')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    dispatch.open();
    expect(await dispatch.answered).toEqual({ outcome: 'closed' });
    expect(await shop.books(order.id)).toMatchObject({ charges: ['refunded'], parcel: { status: 'closed' } });
    expect(await order.view()).toMatchObject({ shipments: [{ status: 'failed' }] });
  });

  test('is too late once the carrier has taken the parcel', async () => {
    const dispatch = gate();
    const order = await shop.approved(anOrder(), { twists: { dispatch: dispatch.after } });
    await dispatch.reached;
    expect(await refusal(order.update('cancel'))).toEqual({ code: 'TOO_LATE', details: { state: 'shipping' } });
    await order.handle.cancel();
    dispatch.open();
    expect(await order.end()).toBe('shipped');
    expect(await order.status()).toMatchObject({ canceled: false, cancel_reason: null });
  });

  test('again changes nothing and keeps the first reason, and every other command is too late', async () => {
    const { order, refund } = await inRefund();
    expect(await order.update('cancel', ['second'])).toMatchObject({ changed: false });
    await expectTooLate(order, 'approve', 'address');
    refund.open();
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ cancel_reason: 'first' });
    expect(await order.status()).toMatchObject({ canceled: true, cancel_reason: 'first', state: 'canceled' });
  });

  test.each(MALFORMED)('for the reason %s is by user_request', async (_name, args) => {
    const [updated, signaled] = [await shop.place(), await shop.place()];
    await updated.update('cancel', args);
    await signaled.signal('cancel', ...args);
    for (const order of [updated, signaled]) {
      expect(await order.end()).toBe('canceled');
      expect(await order.row()).toMatchObject({ cancel_reason: 'user_request' });
    }
  });
});

describe('a Temporal cancellation', () => {
  test('is a cancel, and gives the money back', async () => {
    const charge = gate();
    const order = await shop.approved(anOrder(), { twists: { charge: charge.after } });
    await charge.reached;
    await order.handle.cancel();
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ cancel_reason: 'temporal_cancel' });
    expect(await shop.books(order.id)).toMatchObject({ charges: ['refunded'] });
  });

  test('before the first workflow task is kept', async () => {
    const order = await shop.place();
    await order.handle.cancel();
    expect(await order.end()).toBe('canceled');
  });

  test('lets a command that comes too late be refused as ever, and the refund go on', async () => {
    const charge = gate();
    const refund = gate();
    const order = await shop.approved(anOrder(), { twists: { charge: charge.after, refund: refund.before } });
    await charge.reached;
    await order.handle.cancel();
    await refund.reached;
    await order.signal('address', REACHABLE, 'late');
    await order.status();
    refund.open();
    expect(await order.end()).toBe('canceled');
    expect(await refusals(order)).toMatchObject([{ command: 'address', code: 'TOO_LATE', id: 'late' }]);
  });
});

describe('text that SQL does not store as it is', () => {
  test('as a reason, cut in the middle of a character, cancels', async () => {
    const order = await shop.place();
    await order.update('cancel', [`${'x'.repeat(199)}\u{1f600}`]);
    expect(await order.end()).toBe('canceled');
  }, 10_000);

  test('as an address neither fails nor holds the order', async () => {
    const order = await shop.place();
    await order.signal('address', { line1: '\ud800', city: 'Boston' });
    await order.signal('approve');
    expect(await order.end()).toBe('shipped');
  }, 10_000);
});

describe('a new address', () => {
  test('is in SQL before the answer, once, and is where the parcel goes', async () => {
    const order = await shop.place();
    expect(await order.update('address', [REACHABLE])).toMatchObject({ command: 'address', changed: true });
    expect(await order.row()).toMatchObject({ address: REACHABLE });
    expect(await order.update('address', [REACHABLE])).toMatchObject({ changed: false });
    await order.update('approve');
    expect(await order.end()).toBe('shipped');
    expect((await shop.books(order.id)).parcel).toMatchObject({ address: REACHABLE });
  });

  test('ends the pause after a refused try at once', async () => {
    const given = anOrder({ address: UNREACHABLE });
    const order = await shop.approved(given, { args: [{ ...given, policy: 'production' }], client: shop.patient });
    await eventually(async () => (await order.status()).dispatch_failed_reason);
    await order.update('address', [REACHABLE]);
    // Nobody skips the production policy's pause of a minute here.
    expect(await order.end()).toBe('shipped');
    expect(await order.view()).toMatchObject({ shipments: [{ status: 'failed' }, { status: 'dispatched' }] });
  });

  test('waits for a running try, and is accepted when the carrier refuses that', async () => {
    const { order, dispatch, answer } = await changeDuringTry(UNREACHABLE);
    dispatch.open();
    expect(await answer).toMatchObject({ changed: true });
    expect(await order.end()).toBe('shipped');
    expect((await shop.books(order.id)).parcel).toMatchObject({ address: REACHABLE });
  });

  test('waits for a running try, and is too late when the carrier takes that', async () => {
    const { order, dispatch, answer } = await changeDuringTry({ line1: '123 Main', city: 'Chicago' });
    const refused = refusal(answer);
    dispatch.open();
    expect(await refused).toMatchObject({ code: 'TOO_LATE' });
    expect(await order.end()).toBe('shipped');
    expect((await order.row()).address).toEqual(order.order.address);
  });

  const addresses: [string, unknown[]][] = [...MALFORMED, ['no city', [{ line1: '9 Elm' }]]];
  test.each(addresses)('made of %s is INVALID and changes nothing', async (_name, args) => {
    const order = await shop.place();
    expect(await refusal(order.update('address', args))).toMatchObject({
      code: 'INVALID',
      details: { errors: expect.arrayContaining([{ path: expect.any(String), message: expect.any(String) }]) },
    });
    await order.signal('address', ...args);
    await order.update('approve');
    expect(await order.end()).toBe('shipped');
    expect((await order.row()).address).toEqual(order.order.address);
    expect(await refusals(order)).toMatchObject([{ command: 'address', code: 'INVALID' }]);
  });
});

describe('a signal', () => {
  test('that comes too late is recorded once and ignored', async () => {
    const { order, refund } = await inRefund();
    await order.signal('approve', 'late');
    await order.signal('approve', 'late');
    await eventually(async () => (await refusals(order)).length > 0);
    refund.open();
    expect(await order.end()).toBe('canceled');
    expect(await refusals(order)).toMatchObject([{ command: 'approve', code: 'TOO_LATE', id: 'late' }]);
  });

  test('with the id of an update that was applied is not applied again', async () => {
    const order = await shop.place();
    await order.update('address', [REACHABLE], 'move');
    await order.signal('address', { line1: '1 Oak', city: 'Denver' }, 'move');
    await order.update('approve');
    expect(await order.end()).toBe('shipped');
    expect((await order.row()).address).toEqual(REACHABLE);
    expect((await shop.books(order.id)).parcel).toMatchObject({ address: REACHABLE });
    expect((await order.events())?.filter((type) => type === 'address_updated')).toHaveLength(1);
  });

  test('that nobody knows, or with an id that is none, breaks nothing', async () => {
    const order = await shop.place();
    await order.handle.signal('no_such_signal', 1);
    await order.signal('approve', { not: 'an id' });
    expect(await order.end()).toBe('shipped');
  });

  test.each(MALFORMED)('dispatch_failed from outside, with %s, is only noted', async (_name, args) => {
    const order = await shop.place();
    await order.handle.signal('dispatch_failed', ...args);
    expect(await order.status()).toMatchObject({ dispatch_failed_reason: expect.any(String), child_attempts: 0 });
    await order.update('approve');
    expect(await order.end()).toBe('shipped');
  });

  test('whose bytes are not JSON stalls nothing', async () => {
    const order = await shop.place();
    await order.signalRaw('cancel', '{"reason');
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ cancel_reason: 'user_request' });
  });
});

/** An order that the carrier has refused once, and that waits for its next try. */
async function refusedByCarrier(): Promise<PlacedOrder> {
  const order = await shop.approved(anOrder({ address: UNREACHABLE }));
  await eventually(async () => (await order.status()).dispatch_failed_reason);
  return order;
}

/** A charged order, canceled for the reason `first`, whose refund waits for the gate. */
async function inRefund() {
  const [charge, refund] = [gate(), gate()];
  const order = await shop.approved(anOrder(), { twists: { charge: charge.after, refund: refund.before } });
  await charge.reached;
  await order.update('cancel', ['first']);
  await refund.reached;
  return { order, refund };
}

/** An order whose first parcel waits for the gate, and whose address change waits for that. */
async function changeDuringTry(address: StartInput['address']) {
  const dispatch = gate();
  const order = await shop.approved(anOrder({ address }), { twists: { dispatch: dispatch.before } });
  await dispatch.reached;
  const update = await order.handle.startUpdate<CommandAnswer, [unknown]>('update_address', {
    args: [REACHABLE],
    waitForStage: 'ACCEPTED',
  });
  return { order, dispatch, answer: update.result() };
}

const refusals = async (order: PlacedOrder): Promise<unknown[]> =>
  (await order.view()).events.filter(({ type }) => type === 'command_refused').map(({ payload }) => payload);
