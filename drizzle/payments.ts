/** Our side of the money: one row a payment id, bound for ever to the first order that tries to charge it. */
import { type Ending, isTerminal, type TerminalState } from '@trellis/contracts/lifecycle';
import type { Money, Payment } from '@trellis/contracts/payment';
import type { Progress } from '@trellis/contracts/status';
import { and, asc, eq, sql } from 'drizzle-orm';
import type { Database, Session } from './database.ts';
import { addEvent } from './events.ts';
import { advance, lockOrder, type OrderRow } from './lock-order.ts';
import { closeOrder } from './orders.ts';
import { now, payments } from './schema.ts';

/** What stands in the way of charging, or the money to ask for. */
export type ChargeBegun =
  | { outcome: 'charge'; money: Money }
  | { outcome: 'charged' }
  | { outcome: 'declined' }
  | { outcome: 'conflict' }
  | { outcome: 'closed'; state: TerminalState };

/** `foreign`: the payment id is another order's. */
export type RefundClaim = { outcome: 'ours' } | { outcome: 'foreign' } | { outcome: 'closed'; state: TerminalState };

export type PaymentStore = ReturnType<typeof createPaymentStore>;

export function createPaymentStore(db: Database) {
  return {
    /** Before the company is asked: binds the payment id and records the approval. */
    begin: (orderId: string, paymentId: string) =>
      db.transaction(async (tx): Promise<ChargeBegun> => {
        const order = await lockOrder(tx, orderId);
        if (isTerminal(order.state)) return { outcome: 'closed', state: order.state };
        const payment = await bind(tx, order, paymentId);
        if (payment === undefined) return { outcome: 'conflict' };
        if (payment.status !== 'pending') return { outcome: payment.status === 'failed' ? 'declined' : 'charged' };
        if (await advance(tx, order, 'approved', { step: 'charge_payment', approved: true }))
          await addEvent(tx, orderId, 'order_approved', { payment_id: paymentId });
        return { outcome: 'charge', money: { amount: payment.amount, currency: payment.currency } };
      }),

    /** The company took the money. Too late to matter once the order has closed. */
    charged: (orderId: string, paymentId: string) =>
      db.transaction(async (tx) => {
        const order = await lockOrder(tx, orderId);
        if (isTerminal(order.state)) return;
        await setStatus(tx, orderId, paymentId, 'pending', 'charged');
        await advance(tx, order, 'payment_charged');
        await addCharged(tx, order, paymentId);
      }),

    /** The company refused, so nothing is owed. */
    refused: (orderId: string, paymentId: string) =>
      db.transaction(async (tx) => {
        await lockOrder(tx, orderId);
        await setStatus(tx, orderId, paymentId, 'pending', 'failed');
      }),

    /** Whether the payment is this order's to refund; binds it if nobody has, so that it can't be charged later. */
    claimForRefund: (orderId: string, paymentId: string) =>
      db.transaction(async (tx): Promise<RefundClaim> => {
        const order = await lockOrder(tx, orderId);
        if (isTerminal(order.state)) return { outcome: 'closed', state: order.state };
        return { outcome: (await bind(tx, order, paymentId)) ? 'ours' : 'foreign' };
      }),

    /** The money is back, or was never taken: settles the payment and closes the order in one transaction. */
    settle: (orderId: string, paymentId: string, wasCharged: boolean, ending: Ending, progress: Progress) =>
      db.transaction(async (tx): Promise<TerminalState> => {
        const order = await lockOrder(tx, orderId);
        if (isTerminal(order.state)) return order.state;
        await tx
          .update(payments)
          .set({ status: wasCharged ? 'refunded' : 'failed', updatedAt: now })
          .where(and(eq(payments.paymentId, paymentId), eq(payments.orderId, orderId)));
        if (wasCharged) {
          await addCharged(tx, order, paymentId);
          await addEvent(tx, orderId, 'payment_refunded', { payment_id: paymentId, ...moneyOf(order) });
        }
        return closeOrder(tx, order, ending, progress);
      }),
  };
}

/** The payment's row, made if there is none; undefined when it belongs to another order. */
async function bind(tx: Session, order: OrderRow, paymentId: string) {
  const { amount, currency } = moneyOf(order);
  await tx
    .insert(payments)
    .values({ paymentId, orderId: order.id, status: 'pending', amount, currency })
    .onDuplicateKeyUpdate({ set: { paymentId: sql`payment_id` } });
  const [row] = await tx.select().from(payments).where(eq(payments.paymentId, paymentId)).for('update');
  return row?.orderId === order.id ? row : undefined;
}

/** An order is priced when it is validated, which comes before any money. */
function moneyOf(order: OrderRow): Money {
  if (order.amount === null || order.currency === null) throw new Error(`order ${order.id} has no price`);
  return { amount: order.amount, currency: order.currency };
}

async function setStatus(tx: Session, orderId: string, paymentId: string, from: 'pending', to: 'charged' | 'failed') {
  await tx
    .update(payments)
    .set({ status: to, updatedAt: now })
    .where(and(eq(payments.paymentId, paymentId), eq(payments.orderId, orderId), eq(payments.status, from)));
}

const addCharged = (tx: Session, order: OrderRow, paymentId: string) =>
  addEvent(tx, order.id, 'payment_charged', { payment_id: paymentId, ...moneyOf(order) });

export async function paymentsOf(session: Session, orderId: string): Promise<Payment[]> {
  const rows = await session
    .select()
    .from(payments)
    .where(eq(payments.orderId, orderId))
    .orderBy(asc(payments.createdAt));
  return rows.map((row) => ({
    payment_id: row.paymentId,
    status: row.status,
    amount: row.amount,
    currency: row.currency,
    created_at: row.createdAt.toISOString(),
    updated_at: row.updatedAt.toISOString(),
  }));
}
