/** What companies do to an order's money and its parcel, and what comes of it. */
import type { Shipment } from '@trellis/contracts/shipment';
import { shippingWorkflowId } from '@trellis/contracts/temporal';
import { createPaymentBook } from '@trellis/drizzle/sandbox/books';
import { describe, expect, test } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import { failsTwice, gate, losesFirstAnswer, ownShop, type PlacedOrder, sharedShop } from '../workflow-fixture.ts';

const shop = await sharedShop();

const UNREACHABLE = { line1: '123 Main', city: 'Unreachable' };
const REACHABLE = { line1: '9 Elm', city: 'Boston' };

describe('the card', () => {
  test('declined ends the order failed, with nothing to refund', async () => {
    const order = await shop.approved(anOrder({ payment_id: freshId('declined') }));
    expect(await order.end()).toBe('failed');
    expect(await order.view()).toMatchObject({
      reason: 'PAYMENT_DECLINED',
      payments: [{ status: 'failed', amount: '2.00' }],
      shipments: [],
    });
    expect(await order.events()).toEqual(['order_received', 'order_validated', 'order_approved', 'order_failed']);
    expect(await order.status()).toMatchObject({ step: 'charge_payment', state: 'failed', reason: 'PAYMENT_DECLINED' });
  });

  test('used by another order before fails this one and leaves the other its money', async () => {
    const first = await shop.approved();
    await first.end();
    const before = await first.view();
    const second = await shop.approved(anOrder({ payment_id: first.order.payment_id }));
    expect(await second.end()).toBe('failed');
    expect(await second.view()).toMatchObject({ reason: 'PAYMENT_CONFLICT', payments: [], shipments: [] });
    expect(await first.view()).toEqual(before);
    expect(await shop.books(first.id)).toMatchObject({ charges: ['charged'] });
  });

  test('that the company has under another order stays that order’s, and so does the money', async () => {
    const own = await ownShop({});
    const order = anOrder();
    const stranger = freshId();
    await createPaymentBook(own.db).charge(order.payment_id, stranger, { amount: '7.00', currency: 'EUR' }, 'charged');
    const late = await own.approved(order);
    expect(await late.end()).toBe('failed');
    expect(await late.view()).toMatchObject({ reason: 'PAYMENT_CONFLICT', payments: [{ status: 'failed' }] });
    expect(await own.books(stranger)).toMatchObject({ charges: ['charged'] });
  });

  test('belongs to the order that tried it first, even while that one is waiting for its charge', async () => {
    const charge = gate();
    const first = await shop.approved(anOrder(), { twists: { charge: charge.before } });
    await charge.reached;
    const second = await shop.approved(anOrder({ payment_id: first.order.payment_id }), { client: shop.patient });
    expect(await second.end()).toBe('failed');
    expect(await second.row()).toMatchObject({ reason: 'PAYMENT_CONFLICT' });
    charge.open();
    expect(await first.end()).toBe('shipped');
  });

  test('is charged once when the answer is lost', async () => {
    const order = await shop.approved(anOrder(), { twists: { charge: losesFirstAnswer } });
    expect(await order.end()).toBe('shipped');
    expect(await shop.books(order.id)).toMatchObject({ charges: ['charged'] });
    expect(await shop.failures(order.id)).toEqual([{ step: 'charge_payment', error: 'connection reset' }]);
  });

  test('is given back once when the answer is lost', async () => {
    const charge = gate();
    const order = await shop.approved(anOrder(), { twists: { charge: charge.after, refund: losesFirstAnswer } });
    await charge.reached;
    await order.update('cancel');
    expect(await order.end()).toBe('canceled');
    expect((await order.events())?.filter((type) => type === 'payment_refunded')).toHaveLength(1);
    expect(await shop.books(order.id)).toMatchObject({ charges: ['refunded'] });
  });
});

describe('the carrier', () => {
  test('gets one parcel when its answer is lost', async () => {
    const order = await shop.approved(anOrder(), { twists: { dispatch: losesFirstAnswer } });
    expect(await order.end()).toBe('shipped');
    expect(await statuses(order)).toEqual(['1 dispatched']);
    expect(await shop.failures(order.id)).toEqual([{ step: 'dispatch_carrier', error: 'connection reset' }]);
  });

  test('that fails for a moment is asked again within the same try', async () => {
    const order = await shop.approved(anOrder(), { twists: { dispatch: failsTwice } });
    expect(await order.end()).toBe('shipped');
    expect(await statuses(order)).toEqual(['1 dispatched']);
  });

  test('that refuses an address ships to the corrected one', async () => {
    const order = await shop.approved(anOrder({ address: UNREACHABLE }));
    await eventually(async () => (await order.status()).dispatch_failed_reason);
    expect(await order.update('address', [REACHABLE])).toMatchObject({ state: 'shipping', changed: true });
    expect(await order.end()).toBe('shipped');
    const { shipments } = await order.view();
    const tries = shipments.length;
    expect(tries).toBeGreaterThanOrEqual(2);
    expect(shipments.map(({ status }) => status)).toEqual([...Array(tries - 1).fill('failed'), 'dispatched']);
    expect(shipments.at(-1)?.payload).toMatchObject({ address: REACHABLE });
    expect((await shop.books(order.id)).parcel).toMatchObject({ status: 'taken', address: REACHABLE });
    await expect(
      shop.env.client.workflow.getHandle(shippingWorkflowId(order.id, tries)).result(),
    ).resolves.toMatchObject({ tracking: expect.any(String) });
  });

  test('that refuses an address has the changes that waited for it decided one after the other', async () => {
    const carrier = gate();
    const order = await shop.approved(anOrder({ address: UNREACHABLE }), {
      twists: { dispatch: carrier.afterFirst },
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
