/** The order's row. Every method is one transaction and may be repeated; a closed order is never changed again. */

import type { Command } from '@trellis/contracts/command';
import type { ErrorCode } from '@trellis/contracts/error';
import { type Ending, isTerminal, type State, type TerminalState } from '@trellis/contracts/lifecycle';
import type { Address, OrderInput } from '@trellis/contracts/order';
import type { Money } from '@trellis/contracts/payment';
import type { Progress } from '@trellis/contracts/status';
import type { Run } from '@trellis/contracts/temporal';
import { and, eq, inArray, sql } from 'drizzle-orm';
import type { Database, Session } from './database.ts';
import { addEvent, hasEvent } from './events.ts';
import { advance, lockOrder, type OrderRow } from './lock-order.ts';
import { now, orders, payments } from './schema.ts';
import { failUnfinished } from './shipments.ts';

export type OrderStore = ReturnType<typeof createOrderStore>;

export function createOrderStore(db: Database) {
  return {
    /** Binds the order to its first run. Another run is told the recorded state and changes nothing. */
    receive: (order: Partial<OrderInput> & { order_id: string }, run: Run, requestHash: string | null) =>
      db.transaction(async (tx): Promise<{ owner: boolean; state: State }> => {
        await tx
          .insert(orders)
          .values({
            id: order.order_id,
            state: 'received',
            step: 'receive_order',
            addressJson: order.address ?? null,
            itemsJson: order.items ?? null,
            paymentId: order.payment_id ?? null,
            policy: order.policy ?? null,
            requestHash,
            workflowId: run.workflow_id,
            runId: run.run_id,
          })
          .onDuplicateKeyUpdate({ set: { id: sql`id` } });
        const row = await lockOrder(tx, order.order_id);
        if (row.runId !== run.run_id) return { owner: false, state: row.state };
        await addEvent(tx, order.order_id, 'order_received', { run_id: run.run_id });
        return { owner: true, state: row.state };
      }),

    /** The order is sound and waits for a person. */
    validated: (orderId: string, { amount, currency }: Money) =>
      db.transaction(async (tx) => {
        const row = await lockOrder(tx, orderId);
        if (
          await advance(tx, row, 'awaiting_approval', {
            step: 'awaiting_approval',
            amount,
            currency,
          })
        )
          await addEvent(tx, orderId, 'order_validated', { amount, currency });
      }),

    /** Puts an accepted address where readers find it; false when the order has closed. */
    changeAddress: (orderId: string, address: Address, commandId: string) =>
      db.transaction(async (tx): Promise<boolean> => {
        const row = await lockOrder(tx, orderId);
        if (isTerminal(row.state)) return false;
        if (await hasEvent(tx, orderId, 'address_updated', commandId)) return true;
        await tx.update(orders).set({ addressJson: address, updatedAt: now }).where(eq(orders.id, orderId));
        await addEvent(tx, orderId, 'address_updated', { address }, commandId);
        return true;
      }),

    /** Notes a signal that asked for what the order's state forbids. */
    refuseCommand: (orderId: string, refusal: { command: Command; state: State; code: ErrorCode; id: string }) =>
      db.transaction(async (tx) => {
        await lockOrder(tx, orderId);
        await addEvent(tx, orderId, 'command_refused', refusal, refusal.id);
      }),

    /**
     * Closes an order that holds no money. Answers the state it is closed in, which is the recorded one if it was closed
     * before; `owed`, and nothing is closed, when the order may have been charged after all.
     */
    close: (orderId: string, ending: Ending, progress: Progress) =>
      db.transaction(async (tx): Promise<TerminalState | 'owed'> => {
        const row = await lockOrder(tx, orderId);
        if (isTerminal(row.state)) return row.state;
        const open = and(eq(payments.orderId, orderId), inArray(payments.status, ['pending', 'charged']));
        const [owed] = await tx.select({ id: payments.paymentId }).from(payments).where(open).for('update');
        return owed ? 'owed' : closeOrder(tx, row, ending, progress);
      }),

    /** The parcel is on its way. */
    shipped: (orderId: string, progress: Progress) =>
      db.transaction(async (tx): Promise<TerminalState> => {
        const row = await lockOrder(tx, orderId);
        if (isTerminal(row.state)) return row.state;
        await advance(tx, row, 'shipped', { ...columnsOf(progress), step: 'done', approved: true });
        await addEvent(tx, orderId, 'order_shipped', { child_attempts: progress.child_attempts });
        return 'shipped';
      }),
  };
}

/** Closes the locked order; the state it was closed in before, if it was, wins. */
export async function closeOrder(
  tx: Session,
  row: OrderRow,
  ending: Ending,
  progress: Progress,
): Promise<TerminalState> {
  if (isTerminal(row.state)) return row.state;
  await advance(tx, row, ending.state, {
    ...columnsOf(progress),
    ...(ending.state === 'canceled' ? { cancelReason: ending.reason } : {}),
    ...(ending.state === 'failed' ? { reason: ending.reason } : {}),
  });
  await failUnfinished(tx, row.id);
  await addEvent(tx, row.id, `order_${ending.state}`, ending);
  return ending.state;
}

export function progressOfRow(row: OrderRow): Progress {
  return {
    step: row.step,
    approved: row.approved,
    child_attempts: row.childAttempts,
    last_error: row.lastError,
    dispatch_failed_reason: row.dispatchFailedReason,
  };
}

function columnsOf(progress: Progress): Partial<OrderRow> {
  return {
    step: progress.step,
    approved: progress.approved,
    childAttempts: progress.child_attempts,
    lastError: progress.last_error,
    dispatchFailedReason: progress.dispatch_failed_reason,
  };
}
