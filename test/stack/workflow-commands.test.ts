/** Commands to a running order, by update and by signal, and their answers. */
import { COMMAND_NAMES, COMMANDS, type CommandAnswer } from '@trellis/contracts/commands';
import type { StartInput } from '@trellis/contracts/order';
import { describe, expect, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';
import { expectTooLate, gate, type PlacedOrder, refusal, sharedTestbed } from '../workflow-fixture.ts';

const bed = await sharedTestbed();

const UNREACHABLE = { line1: '123 Main', city: 'Unreachable' };
const REACHABLE = { line1: '9 Elm', city: 'Boston' };
const MALFORMED: [string, unknown[]][] = [
  ['no argument', []],
  ['null', [null]],
  ['a number', [42]],
  ['an object', [{ reason: 'x' }]],
  ['a list', [['x']]],
  ['an empty text', ['']],
];

test('every command has an update handler and a signal handler', async () => {
  const order = await bed.place();
  const { definition } = await order.handle.query<{
    definition: { updateDefinitions: { name: string }[]; signalDefinitions: { name: string }[] };
  }>('__temporal_workflow_metadata');
  const names = COMMAND_NAMES.map((command) => COMMANDS[command].temporal);
  const handled = (definitions: { name: string }[]) => definitions.map(({ name }) => name);
  expect(handled(definition.updateDefinitions).sort()).toEqual([...names].sort());
  expect(handled(definition.signalDefinitions)).toEqual(expect.arrayContaining(names));
  expect(await order.end()).toBe('expired');
});

describe('approve', () => {
  test('repeated changes nothing', async () => {
    const order = await bed.placeApproved();
    expect(await order.update('approve')).toMatchObject({ changed: false });
    expect(await order.end()).toBe('shipped');
    expect((await order.events())?.filter((type) => type === 'order_approved')).toHaveLength(1);
  });

  test('with the id of an earlier signal gets the first answer', async () => {
    const order = await bed.place();
    await order.signal('approve', 'approve-1');
    expect(await order.update('approve', [], 'approve-1')).toMatchObject({ changed: true });
    expect(await order.update('approve', [], 'approve-2')).toMatchObject({ changed: false });
    expect(await order.end()).toBe('shipped');
  });
});

describe('cancel', () => {
  test('before the approval ends the order without a charge', async () => {
    const order = await bed.place();
    expect(await order.update('cancel')).toMatchObject({ command: 'cancel', changed: true });
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ state: 'canceled', cancel_reason: 'user_request' });
    expect(await order.view()).toMatchObject({ payments: [], shipments: [] });
    expect(await order.events()).toEqual(['order_received', 'order_validated', 'order_canceled']);
    expect(await bed.books(order.id)).toEqual({ charges: [], parcel: undefined });
  });

  test('before the first workflow task is kept', async () => {
    const order = await bed.place(anOrder(), { signal: 'cancel_order', signalArgs: ['changed my mind'] });
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ cancel_reason: 'changed my mind' });
  });

  test('while a charge is under way closes the payment’s key, so that the late charge is refused', async () => {
    const charge = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.before } });
    await charge.reached;
    expect(await order.update('cancel')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    charge.open();
    expect(await charge.answered).toBe('closed');
    expect(await bed.books(order.id)).toMatchObject({ charges: ['closed'], parcel: { status: 'closed' } });
    expect(await order.view()).toMatchObject({ payments: [{ status: 'failed' }] });
    expect(await order.events()).not.toContain('payment_charged');
  });

  test('while the answer to a charge is under way refunds the charge', async () => {
    const charge = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.after } });
    await charge.reached;
    expect(await order.update('cancel')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    expect(await bed.books(order.id)).toMatchObject({ charges: ['refunded'] });
    expect(await order.view()).toMatchObject({ payments: [{ status: 'refunded', amount: '2.00' }] });
    expect((await order.events())?.slice(-3)).toEqual(['payment_charged', 'payment_refunded', 'order_canceled']);
  });

  test('accepted before the card is declined ends the order canceled', async () => {
    const charge = gate();
    const given = anOrder();
    const order = await bed.placeApproved(
      { ...given, payment_id: `declined-${given.order_id}` },
      { faults: { charge: charge.after } },
    );
    await charge.reached;
    await order.update('cancel', ['too slow']);
    charge.open();
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ reason: null, cancel_reason: 'too slow' });
    expect(await order.view()).toMatchObject({ payments: [{ status: 'failed' }] });
  });

  test('between two shipping attempts closes the carrier’s key and refunds the charge', async () => {
    const order = await refusedByCarrier();
    expect(await order.update('cancel')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    expect(await bed.books(order.id)).toMatchObject({ charges: ['refunded'], parcel: { status: 'closed' } });
  });

  test('while a dispatch is under way closes the carrier’s key, so that the late dispatch is refused', async () => {
    const dispatch = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { dispatch: dispatch.before } });
    await dispatch.reached;
    expect(await order.update('cancel')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    dispatch.open();
    expect(await dispatch.answered).toEqual({ outcome: 'closed' });
    expect(await bed.books(order.id)).toMatchObject({ charges: ['refunded'], parcel: { status: 'closed' } });
    expect(await order.view()).toMatchObject({ shipments: [{ status: 'failed' }] });
  });

  test('is TOO_LATE once the carrier has taken the parcel', async () => {
    const dispatch = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { dispatch: dispatch.after } });
    await dispatch.reached;
    expect(await refusal(order.update('cancel'))).toEqual({ code: 'TOO_LATE', details: { state: 'shipping' } });
    await order.handle.cancel();
    dispatch.open();
    expect(await order.end()).toBe('shipped');
    expect(await order.status()).toMatchObject({ canceled: false, cancel_reason: null });
  });

  test('repeated during the refund changes nothing and keeps the first reason, and every other command is TOO_LATE', async () => {
    const { order, refund } = await inRefund();
    expect(await order.update('cancel', ['second'])).toMatchObject({ changed: false });
    await expectTooLate(order, 'approve', 'address');
    refund.open();
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ cancel_reason: 'first' });
    expect(await order.status()).toMatchObject({ canceled: true, cancel_reason: 'first', state: 'canceled' });
  });

  test.each(MALFORMED)('with %s as its reason is recorded as user_request', async (_name, args) => {
    const [updated, signaled] = [await bed.place(), await bed.place()];
    await updated.update('cancel', args);
    await signaled.signal('cancel', ...args);
    for (const order of [updated, signaled]) {
      expect(await order.end()).toBe('canceled');
      expect(await order.row()).toMatchObject({ cancel_reason: 'user_request' });
    }
  });
});

describe('a Temporal cancellation', () => {
  test('cancels the order and refunds the charge', async () => {
    const charge = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.after } });
    await charge.reached;
    await order.handle.cancel();
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ cancel_reason: 'temporal_cancel' });
    expect(await bed.books(order.id)).toMatchObject({ charges: ['refunded'] });
  });

  test('before the first workflow task is kept', async () => {
    const order = await bed.place();
    await order.handle.cancel();
    expect(await order.end()).toBe('canceled');
  });

  test('refuses late commands as any cancel does, and does not stop the refund', async () => {
    const charge = gate();
    const refund = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.after, refund: refund.before } });
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

describe('text that is not valid Unicode', () => {
  test('as a reason that is cut inside a surrogate pair, cancels the order', async () => {
    const order = await bed.place();
    await order.update('cancel', [`${'x'.repeat(199)}\u{1f600}`]);
    expect(await order.end()).toBe('canceled');
  }, 10_000);

  test('as an address neither fails nor stalls the order', async () => {
    const order = await bed.place();
    await order.signal('address', { line1: '\ud800', city: 'Boston' });
    await order.signal('approve');
    expect(await order.end()).toBe('shipped');
  }, 10_000);
});

describe('a new address', () => {
  test('is in SQL before the answer, is applied once, and is where the parcel goes', async () => {
    const order = await bed.place();
    expect(await order.update('address', [REACHABLE])).toMatchObject({ command: 'address', changed: true });
    expect(await order.row()).toMatchObject({ address: REACHABLE });
    expect(await order.update('address', [REACHABLE])).toMatchObject({ changed: false });
    await order.update('approve');
    expect(await order.end()).toBe('shipped');
    expect((await bed.books(order.id)).parcel).toMatchObject({ address: REACHABLE });
  });

  test('ends the backoff after a refused shipping attempt at once', async () => {
    const given = anOrder({ address: UNREACHABLE });
    const order = await bed.placeApproved(given, {
      args: [{ ...given, policy: 'production' }],
      client: bed.realTimeClient,
    });
    await eventually(async () => (await order.status()).dispatch_failed_reason);
    await order.update('address', [REACHABLE]);
    // This client does not skip the production policy's backoff of a minute.
    expect(await order.end()).toBe('shipped');
    expect(await order.view()).toMatchObject({ shipments: [{ status: 'failed' }, { status: 'dispatched' }] });
  });

  test('waits for a running shipping attempt, and is accepted when the carrier refuses it', async () => {
    const { order, dispatch, answer } = await changeDuringAttempt(UNREACHABLE);
    dispatch.open();
    expect(await answer).toMatchObject({ changed: true });
    expect(await order.end()).toBe('shipped');
    expect((await bed.books(order.id)).parcel).toMatchObject({ address: REACHABLE });
  });

  test('waits for a running shipping attempt, and is TOO_LATE when the carrier takes the parcel', async () => {
    const { order, dispatch, answer } = await changeDuringAttempt({ line1: '123 Main', city: 'Chicago' });
    const refused = refusal(answer);
    dispatch.open();
    expect(await refused).toMatchObject({ code: 'TOO_LATE' });
    expect(await order.end()).toBe('shipped');
    expect((await order.row()).address).toEqual(order.order.address);
  });

  const addresses: [string, unknown[]][] = [...MALFORMED, ['no city', [{ line1: '9 Elm' }]]];
  test.each(addresses)('made of %s is INVALID and changes nothing', async (_name, args) => {
    const order = await bed.place();
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
    const order = await bed.place();
    await order.update('address', [REACHABLE], 'move');
    await order.signal('address', { line1: '1 Oak', city: 'Denver' }, 'move');
    await order.update('approve');
    expect(await order.end()).toBe('shipped');
    expect((await order.row()).address).toEqual(REACHABLE);
    expect((await bed.books(order.id)).parcel).toMatchObject({ address: REACHABLE });
    expect((await order.events())?.filter((type) => type === 'address_updated')).toHaveLength(1);
  });

  test('with an unknown name or an invalid id does not stop the order', async () => {
    const order = await bed.place();
    await order.handle.signal('no_such_signal', 1);
    await order.signal('approve', { not: 'an id' });
    expect(await order.end()).toBe('shipped');
  });

  test.each(MALFORMED)('dispatch_failed from outside, with %s, is only recorded', async (_name, args) => {
    const order = await bed.place();
    await order.handle.signal('dispatch_failed', ...args);
    expect(await order.status()).toMatchObject({ dispatch_failed_reason: expect.any(String), child_attempts: 0 });
    await order.update('approve');
    expect(await order.end()).toBe('shipped');
  });

  test('whose argument is not JSON does not stall the order', async () => {
    const order = await bed.place();
    await order.signalRaw('cancel', '{"reason');
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ cancel_reason: 'user_request' });
  });
});

/** An order that the carrier has refused once and that waits for its next shipping attempt. */
async function refusedByCarrier(): Promise<PlacedOrder> {
  const order = await bed.placeApproved(anOrder({ address: UNREACHABLE }));
  await eventually(async () => (await order.status()).dispatch_failed_reason);
  return order;
}

/** A charged order, canceled with the reason `first`, whose refund is held by `refund`. */
async function inRefund() {
  const [charge, refund] = [gate(), gate()];
  const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.after, refund: refund.before } });
  await charge.reached;
  await order.update('cancel', ['first']);
  await refund.reached;
  return { order, refund };
}

/** An order whose first dispatch is held by `dispatch`, and whose address change waits for it. */
async function changeDuringAttempt(address: StartInput['address']) {
  const dispatch = gate();
  const order = await bed.placeApproved(anOrder({ address }), { faults: { dispatch: dispatch.before } });
  await dispatch.reached;
  const update = await order.handle.startUpdate<CommandAnswer, [unknown]>(COMMANDS.address.temporal, {
    args: [REACHABLE],
    waitForStage: 'ACCEPTED',
  });
  return { order, dispatch, answer: update.result() };
}

const refusals = async (order: PlacedOrder): Promise<unknown[]> =>
  (await order.view()).events.filter(({ type }) => type === 'command_refused').map(({ payload }) => payload);
