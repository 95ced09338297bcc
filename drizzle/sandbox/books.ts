/** The simulated companies' books. Open a separate database handle for them: their transactions are not the product's. */
import type { Address } from '@trellis/contracts/order';
import type { Money } from '@trellis/contracts/payment';
import { and, eq, isNotNull, sql } from 'drizzle-orm';
import { now } from '../columns.ts';
import type { Database } from '../database.ts';
import { sandboxCharges, sandboxParcels } from './schema.ts';

type ChargeRow = typeof sandboxCharges.$inferSelect;
export type ParcelRow = typeof sandboxParcels.$inferSelect;

export type PaymentBook = ReturnType<typeof createPaymentBook>;

export function createPaymentBook(db: Database) {
  return {
    /** The charge as recorded after this request; the first result for a payment id is final, so no transaction is needed. */
    charge: (paymentId: string, orderId: string, money: Money, status: 'charged' | 'declined') =>
      db.run(async (session): Promise<ChargeRow> => {
        await session
          .insert(sandboxCharges)
          .values({ payment_id: paymentId, order_id: orderId, ...money, status })
          .onDuplicateKeyUpdate({ set: { status: sql`status` } });
        return found(await session.select().from(sandboxCharges).where(eq(sandboxCharges.payment_id, paymentId)));
      }),

    /** Refunds a charge, or closes a key that was never charged. A key of another order stays as it is. */
    refund: (paymentId: string, orderId: string) =>
      db.transaction(async (tx): Promise<ChargeRow> => {
        await tx
          .insert(sandboxCharges)
          .values({ payment_id: paymentId, order_id: orderId, status: 'closed' })
          .onDuplicateKeyUpdate({ set: { status: sql`status` } });
        const key = eq(sandboxCharges.payment_id, paymentId);
        const row = found(await tx.select().from(sandboxCharges).where(key).for('update'));
        if (row.order_id !== orderId || row.status !== 'charged') return row;
        // With the order's id, the statement needs no lookup of the shard, which would wait for this transaction's own lock.
        await tx
          .update(sandboxCharges)
          .set({ status: 'refunded', updated_at: now })
          .where(and(key, eq(sandboxCharges.order_id, orderId)));
        return { ...row, status: 'refunded' };
      }),
  };
}

export type ParcelBook = ReturnType<typeof createParcelBook>;

export function createParcelBook(db: Database) {
  /** An entry is never changed, but for its address, so no transaction is needed. */
  const enter = (orderId: string, entry: Pick<ParcelRow, 'status' | 'tracking'> & { address?: Address }) =>
    db.run(async (session): Promise<ParcelRow> => {
      await session
        .insert(sandboxParcels)
        .values({ order_id: orderId, ...entry })
        .onDuplicateKeyUpdate({ set: { status: sql`status` } });
      return found(await session.select().from(sandboxParcels).where(eq(sandboxParcels.order_id, orderId)));
    });
  return {
    /** The order's parcel after this request; a parcel taken before, or a closed key, stays as it is. */
    take: (orderId: string, address: Address, tracking: string) =>
      enter(orderId, { status: 'taken', tracking, address }),

    /** Closes the key unless the parcel is taken. */
    close: (orderId: string) => enter(orderId, { status: 'closed', tracking: null }),

    /** Drops the parcel's address. */
    forget: (orderId: string) =>
      db.run((session) =>
        session
          .update(sandboxParcels)
          .set({ address: null, updated_at: now })
          .where(and(eq(sandboxParcels.order_id, orderId), isNotNull(sandboxParcels.address))),
      ),

    find: (orderId: string): Promise<ParcelRow | undefined> =>
      db.run(
        async (session) => (await session.select().from(sandboxParcels).where(eq(sandboxParcels.order_id, orderId)))[0],
      ),
  };
}

function found<T>([row]: T[]): T {
  if (row === undefined) throw new Error('a row that was just written is missing');
  return row;
}
