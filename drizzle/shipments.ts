/** The product's record of the parcel: one row per shipping attempt, numbered from 1. */

import type { Address } from '@trellis/contracts/order';
import type { Parcel } from '@trellis/contracts/shipment';
import { isTerminal, type State } from '@trellis/contracts/states-and-steps';
import { and, asc, eq, lt, sql } from 'drizzle-orm';
import { now } from './columns.ts';
import type { Database, Session } from './database.ts';
import { addEvent, hasEvent } from './events.ts';
import { lockOrder, saveOrder } from './lock-order.ts';
import { shipments } from './schema.ts';

const PAID: readonly State[] = ['payment_charged', 'shipping'];

export type ShipmentStore = ReturnType<typeof createShipmentStore>;

export function createShipmentStore(db: Database) {
  return {
    /**
     * The parcel is packed. Returns the order's address, to which it goes: later changes belong to a later attempt. Undefined,
     * without a write, when the order is not paid, has ended, or has begun a later shipping attempt.
     */
    prepared: (orderId: string, attempt: number) =>
      db.transaction(async (tx): Promise<Address | undefined> => {
        const order = await lockOrder(tx, orderId);
        const { address } = order;
        if (!address || !PAID.includes(order.state) || attempt < order.child_attempts) return undefined;
        await tx
          .insert(shipments)
          .values({ order_id: orderId, attempt, status: 'prepared', payload: { address } })
          .onDuplicateKeyUpdate({ set: { id: sql`id` } });
        if (order.state === 'shipping') await failUnfinished(tx, orderId, attempt);
        await addEvent(tx, order, 'package_prepared', { attempt }, { occurrence: attempt });
        await saveOrder(tx, order, { state: 'shipping', step: 'shipping_child', child_attempts: attempt });
        return address;
      }),

    /**
     * The carrier has the parcel. Marks one attempt as dispatched: an already dispatched one, else `reportedBy`, else the
     * last prepared one before it.
     */
    dispatched: (orderId: string, reportedBy: number, parcel: Parcel) =>
      db.transaction(async (tx) => {
        const order = await lockOrder(tx, orderId);
        const prepared = await tx
          .select({ attempt: shipments.attempt, status: shipments.status })
          .from(shipments)
          .where(eq(shipments.order_id, orderId))
          .orderBy(asc(shipments.attempt));
        if (prepared.some(({ status }) => status === 'dispatched')) return failUnfinished(tx, orderId);
        const attempt = prepared.findLast((one) => one.attempt <= reportedBy)?.attempt ?? reportedBy;
        const payload = { address: parcel.address, tracking: parcel.tracking };
        await tx
          .insert(shipments)
          .values({ order_id: orderId, attempt, status: 'dispatched', payload })
          .onDuplicateKeyUpdate({ set: { status: 'dispatched', payload, ts: now } });
        await addEvent(tx, order, 'carrier_dispatched', { attempt, tracking: parcel.tracking });
        await saveOrder(tx, order);
      }),

    /** This shipping attempt failed. */
    failed: (orderId: string, attempt: number, reason: string) =>
      db.transaction(async (tx) => {
        const order = await lockOrder(tx, orderId);
        await tx
          .update(shipments)
          .set({ status: 'failed', ts: now })
          .where(
            and(eq(shipments.order_id, orderId), eq(shipments.attempt, attempt), eq(shipments.status, 'prepared')),
          );
        if (isTerminal(order.state) || (await hasEvent(tx, orderId, 'dispatch_failed', attempt))) return;
        await addEvent(tx, order, 'dispatch_failed', { attempt, reason }, { occurrence: attempt });
        await saveOrder(tx, order, { dispatch_failed_reason: reason });
      }),
  };
}

const MAX_INT = 2 ** 31 - 1;

/** Marks prepared attempts before `beforeAttempt`, by default all, as failed: attempts of an order run one after another. */
export async function failUnfinished(tx: Session, orderId: string, beforeAttempt = MAX_INT): Promise<void> {
  await tx
    .update(shipments)
    .set({ status: 'failed', ts: now })
    .where(
      and(eq(shipments.order_id, orderId), lt(shipments.attempt, beforeAttempt), eq(shipments.status, 'prepared')),
    );
}
