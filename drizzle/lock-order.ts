/** Locks an order's row, and moves a locked order to a later state. */
import { movesForward, type State } from '@trellis/contracts/states-and-steps';
import { eq } from 'drizzle-orm';
import { now } from './columns.ts';
import type { Session } from './database.ts';
import { orders } from './schema.ts';

export type OrderRow = typeof orders.$inferSelect;

/**
 * Locks the order's row. Every transaction on an order begins with it, and locks rows in one order, which prevents deadlocks:
 * orders, payments, events. Throws when there is no row.
 */
export async function lockOrder(tx: Session, orderId: string): Promise<OrderRow> {
  const [row] = await tx.select().from(orders).where(eq(orders.order_id, orderId)).for('update');
  if (!row) throw new Error(`order ${orderId} has no row`);
  return row;
}

/** Moves the locked order to a later state. Returns false, without a write, when it is already in that state or a later one. */
export async function advance(
  tx: Session,
  row: OrderRow,
  state: State,
  changes: Partial<OrderRow> = {},
): Promise<boolean> {
  if (!movesForward(row.state, state)) return false;
  await tx
    .update(orders)
    .set({ ...changes, state, updated_at: now })
    .where(eq(orders.order_id, row.order_id));
  return true;
}
