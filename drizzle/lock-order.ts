/** The order's row under its lock. */
import { movesForward, type State } from '@trellis/contracts/lifecycle';
import { eq } from 'drizzle-orm';
import type { Session } from './database.ts';
import { now, orders } from './schema.ts';

export type OrderRow = typeof orders.$inferSelect;

/** Every transaction of an order begins here: order, then payment, then event, so that two never wait for each other. */
export async function lockOrder(tx: Session, orderId: string): Promise<OrderRow> {
  const [row] = await tx.select().from(orders).where(eq(orders.id, orderId)).for('update');
  if (!row) throw new Error(`order ${orderId} has no row`);
  return row;
}

/** Moves the locked order to a later state; false, and nothing written, when it is there or beyond. */
export async function advance(
  tx: Session,
  row: OrderRow,
  state: State,
  also: Partial<OrderRow> = {},
): Promise<boolean> {
  if (!movesForward(row.state, state)) return false;
  await tx
    .update(orders)
    .set({ ...also, state, updatedAt: now })
    .where(eq(orders.id, row.id));
  return true;
}
