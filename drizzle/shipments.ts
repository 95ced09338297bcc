/** Our side of the parcel: one row a try. */
import { isTerminal, type State } from '@trellis/contracts/lifecycle';
import type { Address } from '@trellis/contracts/order';
import type { Parcel, Shipment } from '@trellis/contracts/shipment';
import { and, asc, eq, lt, sql } from 'drizzle-orm';
import type { Database, Session } from './database.ts';
import { addEvent, hasEvent } from './events.ts';
import { advance, lockOrder } from './lock-order.ts';
import { now, orders, shipments } from './schema.ts';

const PAID: readonly State[] = ['payment_charged', 'shipping'];

export type ShipmentStore = ReturnType<typeof createShipmentStore>;

export function createShipmentStore(db: Database) {
  return {
    /** The package is packed; false when the order isn't paid for, has closed meanwhile, or has gone on to a later try. */
    prepared: (orderId: string, attempt: number, address: Address) =>
      db.transaction(async (tx): Promise<boolean> => {
        const order = await lockOrder(tx, orderId);
        if (!PAID.includes(order.state) || attempt < order.childAttempts) return false;
        await tx
          .insert(shipments)
          .values({ orderId, attempt, status: 'prepared', payloadJson: { address } })
          .onDuplicateKeyUpdate({ set: { id: sql`id` } });
        await failUnfinished(tx, orderId, attempt);
        await advance(tx, order, 'shipping');
        await tx
          .update(orders)
          .set({ step: 'shipping_child', childAttempts: attempt, updatedAt: now })
          .where(eq(orders.id, orderId));
        await addEvent(tx, orderId, 'package_prepared', { attempt, address }, attempt);
        return true;
      }),

    /**
     * The carrier has the parcel. A try that is known to have handed it over keeps the credit; a try that was never
     * packed can't have done so, then it was the last one that was.
     */
    dispatched: (orderId: string, asked: number, parcel: Parcel) =>
      db.transaction(async (tx) => {
        await lockOrder(tx, orderId);
        const packed = await tx
          .select({ attempt: shipments.attempt, status: shipments.status })
          .from(shipments)
          .where(eq(shipments.orderId, orderId))
          .orderBy(asc(shipments.attempt));
        if (packed.some(({ status }) => status === 'dispatched')) return failUnfinished(tx, orderId);
        const attempt = packed.findLast((one) => one.attempt <= asked)?.attempt ?? asked;
        const payloadJson = { address: parcel.address, tracking: parcel.tracking };
        await tx
          .insert(shipments)
          .values({ orderId, attempt, status: 'dispatched', payloadJson })
          .onDuplicateKeyUpdate({ set: { status: 'dispatched', payloadJson, ts: now } });
        await addEvent(tx, orderId, 'carrier_dispatched', { attempt, ...payloadJson });
      }),

    /** This try came to nothing. */
    failed: (orderId: string, attempt: number, reason: string) =>
      db.transaction(async (tx) => {
        const order = await lockOrder(tx, orderId);
        await tx
          .update(shipments)
          .set({ status: 'failed', ts: now })
          .where(and(eq(shipments.orderId, orderId), eq(shipments.attempt, attempt), eq(shipments.status, 'prepared')));
        if (isTerminal(order.state) || (await hasEvent(tx, orderId, 'dispatch_failed', attempt))) return;
        await tx.update(orders).set({ dispatchFailedReason: reason, updatedAt: now }).where(eq(orders.id, orderId));
        await addEvent(tx, orderId, 'dispatch_failed', { attempt, reason }, attempt);
      }),
  };
}

/** Tries before `attempt` that ended without a word have failed: each try begins when the last one is over. */
export async function failUnfinished(tx: Session, orderId: string, before = 2 ** 31 - 1): Promise<void> {
  await tx
    .update(shipments)
    .set({ status: 'failed', ts: now })
    .where(and(eq(shipments.orderId, orderId), lt(shipments.attempt, before), eq(shipments.status, 'prepared')));
}

export async function shipmentsOf(session: Session, orderId: string): Promise<Shipment[]> {
  const rows = await session
    .select()
    .from(shipments)
    .where(eq(shipments.orderId, orderId))
    .orderBy(asc(shipments.attempt));
  return rows.map((row) => ({
    attempt: row.attempt,
    status: row.status,
    payload: row.payloadJson as Shipment['payload'],
    ts: row.ts.toISOString(),
  }));
}
