/** Locks an order's row, and writes that of a locked order. */
import { eq } from 'drizzle-orm';
import type { MySqlUpdateSetSource } from 'drizzle-orm/mysql-core';
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

/**
 * Writes changes of the locked order, and the hash of its last event: once in a transaction, after its events. `updated_at` stays without
 * changes, and where they name it.
 */
export async function saveOrder(
  tx: Session,
  row: OrderRow,
  changes?: MySqlUpdateSetSource<typeof orders>,
): Promise<void> {
  await tx
    .update(orders)
    .set({ ...(changes && { updated_at: now }), ...changes, last_event_hash: row.last_event_hash })
    .where(eq(orders.order_id, row.order_id));
}
