/** Refusals, conflicts and lost answers of the payment company and the carrier. */
import type { Shipment } from '@trellis/contracts/shipment';
import { shippingWorkflowId } from '@trellis/contracts/temporal';
import { createPaymentBook } from '@trellis/drizzle/sandbox/books';
import { describe, expect, test } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import {
  failsTwice,
  gate,
  losesFirstAnswer,
  ownTestbed,
  type PlacedOrder,
  sharedTestbed,
} from '../workflow-fixture.ts';

const bed = await sharedTestbed();

const UNREACHABLE = { line1: '123 Main', city: 'Unreachable' };
const REACHABLE = { line1: '9 Elm', city: 'Boston' };

describe('a payment', () => {
  test('that is declined ends the order failed without a refund', async () => {
    const order = await bed.placeApproved(anOrder({ payment_id: freshId('declined') }));
    expect(await order.end()).toBe('failed');
    expect(await order.view()).toMatchObject({
      reason: 'PAYMENT_DECLINED',
      payments: [{ status: 'failed', amount: '2.00' }],
      shipments: [],
    });
    expect(await order.events()).toEqual(['order_received', 'order_validated', 'order_approved', 'order_failed']);
    expect(await order.status()).toMatchObject({ step: 'charge_payment', state: 'failed', reason: 'PAYMENT_DECLINED' });
  });

  test('with the id of another order’s payment fails the order and leaves the other charge', async () => {
    const first = await bed.placeApproved();
    await first.end();
    const before = await first.view();
    const second = await bed.placeApproved(anOrder({ payment_id: first.order.payment_id }));
    expect(await second.end()).toBe('failed');
    expect(await second.view()).toMatchObject({ reason: 'PAYMENT_CONFLICT', payments: [], shipments: [] });
    expect(await first.view()).toEqual(before);
    expect(await bed.books(first.id)).toMatchObject({ charges: ['charged'] });
  });

  test('that the company has recorded for another order fails the order and leaves that charge', async () => {
    const own = await ownTestbed({});
    const order = anOrder();
    const otherId = freshId();
    await createPaymentBook(own.db).charge(order.payment_id, otherId, { amount: '7.00', currency: 'EUR' }, 'charged');
    const late = await own.placeApproved(order);
    expect(await late.end()).toBe('failed');
    expect(await late.view()).toMatchObject({ reason: 'PAYMENT_CONFLICT', payments: [{ status: 'failed' }] });
    expect(await own.books(otherId)).toMatchObject({ charges: ['charged'] });
  });

  test('belongs to the first order that begins its charge, also while that charge is pending', async () => {
    const charge = gate();
    const first = await bed.placeApproved(anOrder(), { faults: { charge: charge.before } });
    await charge.reached;
    const second = await bed.placeApproved(anOrder({ payment_id: first.order.payment_id }), {
      client: bed.realTimeClient,
    });
    expect(await second.end()).toBe('failed');
    expect(await second.row()).toMatchObject({ reason: 'PAYMENT_CONFLICT' });
    charge.open();
    expect(await first.end()).toBe('shipped');
  });

  test('is charged once when the answer is lost', async () => {
    const order = await bed.placeApproved(anOrder(), { faults: { charge: losesFirstAnswer } });
    expect(await order.end()).toBe('shipped');
    expect(await bed.books(order.id)).toMatchObject({ charges: ['charged'] });
    expect(await bed.failedAttempts(order.id)).toEqual([{ step: 'charge_payment', error: 'connection reset' }]);
  });

  test('is refunded once when the answer is lost', async () => {
    const charge = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.after, refund: losesFirstAnswer } });
    await charge.reached;
    await order.update('cancel');
    expect(await order.end()).toBe('canceled');
    expect((await order.events())?.filter((type) => type === 'payment_refunded')).toHaveLength(1);
    expect(await bed.books(order.id)).toMatchObject({ charges: ['refunded'] });
  });
});

describe('the carrier', () => {
  test('gets one parcel when its answer is lost', async () => {
    const order = await bed.placeApproved(anOrder(), { faults: { dispatch: losesFirstAnswer } });
    expect(await order.end()).toBe('shipped');
    expect(await statuses(order)).toEqual(['1 dispatched']);
    expect(await bed.failedAttempts(order.id)).toEqual([{ step: 'dispatch_carrier', error: 'connection reset' }]);
  });

  test('that fails twice is called again within the same shipping attempt', async () => {
    const order = await bed.placeApproved(anOrder(), { faults: { dispatch: failsTwice } });
    expect(await order.end()).toBe('shipped');
    expect(await statuses(order)).toEqual(['1 dispatched']);
  });

  test('that refuses an address ships to the corrected one', async () => {
    const order = await bed.placeApproved(anOrder({ address: UNREACHABLE }));
    await eventually(async () => (await order.status()).dispatch_failed_reason);
    expect(await order.update('address', [REACHABLE])).toMatchObject({ state: 'shipping', changed: true });
    expect(await order.end()).toBe('shipped');
    const { shipments } = await order.view();
    const attempts = shipments.length;
    expect(attempts).toBeGreaterThanOrEqual(2);
    expect(shipments.map(({ status }) => status)).toEqual([...Array(attempts - 1).fill('failed'), 'dispatched']);
    expect(shipments.at(-1)?.payload).toMatchObject({ address: REACHABLE });
    expect((await bed.books(order.id)).parcel).toMatchObject({ status: 'taken', address: REACHABLE });
    await expect(
      bed.env.client.workflow.getHandle(shippingWorkflowId(order.id, attempts)).result(),
    ).resolves.toMatchObject({ tracking: expect.any(String) });
  });

  test('that refuses an address lets the changes that waited for it be decided in order', async () => {
    const carrier = gate();
    const order = await bed.placeApproved(anOrder({ address: UNREACHABLE }), {
      faults: { dispatch: carrier.afterFirst },
    });
    await carrier.reached;
    await order.signal('address', { city: 'no street' });
    await order.signal('address', REACHABLE);
    carrier.open();
    expect(await order.end()).toBe('shipped');
    const decisions = (await order.events())?.filter(
      (type) => type === 'command_refused' || type === 'address_updated',
    );
    expect(decisions).toEqual(['command_refused', 'address_updated']);
  });
});

const statuses = async (order: PlacedOrder): Promise<string[]> =>
  (await order.view()).shipments.map(({ attempt, status }: Shipment) => `${attempt} ${status}`);
