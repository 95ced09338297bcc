/** The simulated companies' own books. They share nothing with ours but the server: give them a database handle of their own. */
import type { Address } from '@trellis/contracts/order';
import type { Money } from '@trellis/contracts/payment';
import { eq, sql } from 'drizzle-orm';
import type { Database } from '../database.ts';
import { now, sandboxCharges, sandboxParcels } from '../schema.ts';

export type ChargeRow = typeof sandboxCharges.$inferSelect;
export type ParcelRow = typeof sandboxParcels.$inferSelect;

export type PaymentBook = ReturnType<typeof createPaymentBook>;

export function createPaymentBook(db: Database) {
  return {
    /** The charge as it stands after asking for it; the first word on a key stays. */
    charge: (paymentId: string, orderId: string, { amount, currency }: Money, status: 'charged' | 'declined') =>
      db.transaction(async (tx): Promise<ChargeRow> => {
        await tx
          .insert(sandboxCharges)
          .values({ paymentId, orderId, amount, currency, status })
          .onDuplicateKeyUpdate({ set: { paymentId: sql`payment_id` } });
        return found(await tx.select().from(sandboxCharges).where(eq(sandboxCharges.paymentId, paymentId)));
      }),

    /** Gives a charge back, or closes a key that was never charged. Another order's key is left alone. */
    refund: (paymentId: string, orderId: string) =>
      db.transaction(async (tx): Promise<ChargeRow> => {
        await tx
          .insert(sandboxCharges)
          .values({ paymentId, orderId, status: 'closed' })
          .onDuplicateKeyUpdate({ set: { paymentId: sql`payment_id` } });
        const key = eq(sandboxCharges.paymentId, paymentId);
        const row = found(await tx.select().from(sandboxCharges).where(key).for('update'));
        if (row.orderId !== orderId || row.status !== 'charged') return row;
        await tx.update(sandboxCharges).set({ status: 'refunded', updatedAt: now }).where(key);
        return { ...row, status: 'refunded' };
      }),
  };
}

export type ParcelBook = ReturnType<typeof createParcelBook>;

export function createParcelBook(db: Database) {
  const enter = (orderId: string, entry: Pick<ParcelRow, 'status' | 'tracking'> & { addressJson?: Address }) =>
    db.transaction(async (tx): Promise<ParcelRow> => {
      await tx
        .insert(sandboxParcels)
        .values({ orderId, ...entry })
        .onDuplicateKeyUpdate({ set: { orderId: sql`order_id` } });
      return found(await tx.select().from(sandboxParcels).where(eq(sandboxParcels.orderId, orderId)));
    });
  return {
    /** The order's parcel after handing one over; a parcel taken before, or a closed key, stays what it is. */
    take: (orderId: string, address: Address, tracking: string) =>
      enter(orderId, { status: 'taken', tracking, addressJson: address }),

    /** Closes the key unless the parcel is taken. */
    close: (orderId: string) => enter(orderId, { status: 'closed', tracking: null }),

    find: (orderId: string): Promise<ParcelRow | undefined> =>
      db.run(
        async (session) => (await session.select().from(sandboxParcels).where(eq(sandboxParcels.orderId, orderId)))[0],
      ),
  };
}

function found<T>([row]: T[]): T {
  if (row === undefined) throw new Error('a row that was just written is missing');
  return row;
}
