/** The product's record of the money: one row per payment id, bound permanently to the first order that charges or refunds it. */

import { type Approval, type Decisions, FOREIGN_CALLER } from '@trellis/contracts/actor';
import type { Progress } from '@trellis/contracts/order-status';
import type { Money } from '@trellis/contracts/payment';
import { type Ending, isTerminal, movesForward, type TerminalState } from '@trellis/contracts/states-and-steps';
import { and, eq, sql } from 'drizzle-orm';
import { now } from './columns.ts';
import type { Database, Session } from './database.ts';
import { addEvent } from './events.ts';
import { lockOrder, type OrderRow, saveOrder } from './lock-order.ts';
import { addApproval, endOrder } from './orders.ts';
import { payments } from './schema.ts';

/** `charge`: the amount to charge now. Otherwise why there is nothing to charge; `closed`: the order has ended. */
type ChargeBegun =
  | { outcome: 'charge'; money: Money }
  | { outcome: 'charged' }
  | { outcome: 'declined' }
  | { outcome: 'conflict' }
  | { outcome: 'closed'; state: TerminalState };

/** `foreign`: the payment id belongs to another order. `closed`: the order has ended. */
type RefundClaim = { outcome: 'ours' } | { outcome: 'foreign' } | { outcome: 'closed'; state: TerminalState };

export type PaymentStore = ReturnType<typeof createPaymentStore>;

export function createPaymentStore(db: Database) {
  return {
    /** Binds the payment id to the order and records the approval, before the payment company is called. */
    beginCharge: (orderId: string, paymentId: string, approval?: Approval) =>
      db.transaction(async (tx): Promise<ChargeBegun> => {
        const order = await lockOrder(tx, orderId);
        if (isTerminal(order.state)) return { outcome: 'closed', state: order.state };
        const payment = await bind(tx, order, paymentId);
        if (payment === undefined) return { outcome: 'conflict' };
        if (payment.status !== 'pending') return { outcome: payment.status === 'failed' ? 'declined' : 'charged' };
        if (movesForward(order.state, 'approved')) {
          await addApproval(tx, order, approval ?? { by: FOREIGN_CALLER, at: new Date().toISOString() });
          await saveOrder(tx, order, { state: 'approved', step: 'charge_payment', approved: true });
        }
        return { outcome: 'charge', money: { amount: payment.amount, currency: payment.currency } };
      }),

    /** The payment company took the money. Changes nothing once the order has ended. */
    charged: (orderId: string, paymentId: string) =>
      db.transaction(async (tx) => {
        const order = await lockOrder(tx, orderId);
        if (isTerminal(order.state)) return;
        await setStatus(tx, orderId, paymentId, 'pending', 'charged');
        if (!movesForward(order.state, 'payment_charged')) return;
        await addCharged(tx, order, paymentId);
        await saveOrder(tx, order, { state: 'payment_charged' });
      }),

    /** The payment company declined the card, so nothing is owed. */
    declined: (orderId: string, paymentId: string) =>
      db.transaction(async (tx) => {
        await lockOrder(tx, orderId);
        await setStatus(tx, orderId, paymentId, 'pending', 'failed');
      }),

    /** Whether the payment is this order's to refund. Binds an unbound payment id, so that no other order can charge it. */
    claimForRefund: (orderId: string, paymentId: string) =>
      db.transaction(async (tx): Promise<RefundClaim> => {
        const order = await lockOrder(tx, orderId);
        if (isTerminal(order.state)) return { outcome: 'closed', state: order.state };
        return { outcome: (await bind(tx, order, paymentId)) ? 'ours' : 'foreign' };
      }),

    /**
     * The money was refunded, or never charged: settles the payment and ends the order in one transaction. Returns the
     * terminal state, the recorded one if the order had ended before.
     */
    settle: (
      orderId: string,
      paymentId: string,
      wasCharged: boolean,
      ending: Ending,
      progress: Progress,
      decisions: Decisions = {},
    ) =>
      db.transaction(async (tx): Promise<TerminalState> => {
        const order = await lockOrder(tx, orderId);
        if (isTerminal(order.state)) return order.state;
        await tx
          .update(payments)
          .set({ status: wasCharged ? 'refunded' : 'failed', updated_at: now })
          .where(and(eq(payments.payment_id, paymentId), eq(payments.order_id, orderId)));
        if (wasCharged) {
          await addCharged(tx, order, paymentId);
          await addEvent(tx, order, 'payment_refunded', { payment_id: paymentId, ...moneyOf(order) });
        }
        return endOrder(tx, order, ending, progress, decisions);
      }),
  };
}

/** The payment's row, inserted if there is none; undefined when it belongs to another order. */
async function bind(tx: Session, order: OrderRow, paymentId: string) {
  await tx
    .insert(payments)
    .values({ payment_id: paymentId, order_id: order.order_id, status: 'pending', ...moneyOf(order) })
    .onDuplicateKeyUpdate({ set: { status: sql`status` } });
  const [row] = await tx.select().from(payments).where(eq(payments.payment_id, paymentId)).for('update');
  return row?.order_id === order.order_id ? row : undefined;
}

/** Validation prices the order, and no payment begins before it. */
function moneyOf({ order_id, amount, currency }: OrderRow): Money {
  if (amount === null || currency === null) throw new Error(`order ${order_id} has no price`);
  return { amount, currency };
}

async function setStatus(tx: Session, orderId: string, paymentId: string, from: 'pending', to: 'charged' | 'failed') {
  await tx
    .update(payments)
    .set({ status: to, updated_at: now })
    .where(and(eq(payments.payment_id, paymentId), eq(payments.order_id, orderId), eq(payments.status, from)));
}

const addCharged = (tx: Session, order: OrderRow, paymentId: string) =>
  addEvent(tx, order, 'payment_charged', { payment_id: paymentId, ...moneyOf(order) });
