/** Orders as readers see them. */
import type { ListInput, ListOutput, OrderSummary, OrderView } from '@trellis/contracts/order';
import { and, desc, eq, lt, or } from 'drizzle-orm';
import type { Database } from './database.ts';
import { eventsOf } from './events.ts';
import type { OrderRow } from './lock-order.ts';
import { paymentsOf } from './payments.ts';
import { orders } from './schema.ts';
import { shipmentsOf } from './shipments.ts';

export type OrderViews = ReturnType<typeof createOrderViews>;

export function createOrderViews(db: Database) {
  return {
    find: (orderId: string): Promise<OrderRow | undefined> =>
      db.run(async (session) => (await session.select().from(orders).where(eq(orders.id, orderId)))[0]),

    /** The order with its payments, shipments and events. */
    view: (orderId: string): Promise<OrderView | undefined> =>
      db.run(async (session) => {
        const [row] = await session.select().from(orders).where(eq(orders.id, orderId));
        if (!row) return undefined;
        return {
          ...summaryOf(row),
          address: row.addressJson as OrderView['address'],
          items: row.itemsJson as OrderView['items'],
          payments: await paymentsOf(session, orderId),
          shipments: await shipmentsOf(session, orderId),
          events: await eventsOf(session, orderId),
        };
      }),

    /** Newest first; `next_cursor` continues behind the last one. An unreadable cursor starts at the beginning. */
    list: ({ state, limit, cursor }: ListInput): Promise<ListOutput> =>
      db.run(async (session) => {
        const after = cursor === undefined ? undefined : parseCursor(cursor);
        const rows = await session
          .select()
          .from(orders)
          .where(
            and(
              state && eq(orders.state, state),
              after && or(lt(orders.createdAt, after.at), and(eq(orders.createdAt, after.at), lt(orders.id, after.id))),
            ),
          )
          .orderBy(desc(orders.createdAt), desc(orders.id))
          .limit(limit + 1);
        const page = rows.slice(0, limit);
        const last = page.at(-1);
        return { orders: page.map(summaryOf), next_cursor: last && rows.length > limit ? cursorOf(last) : null };
      }),
  };
}

function summaryOf(row: OrderRow): OrderSummary {
  return {
    order_id: row.id,
    state: row.state,
    payment_id: row.paymentId,
    amount: row.amount,
    currency: row.currency,
    reason: row.reason ?? row.cancelReason,
    created_at: row.createdAt.toISOString(),
    updated_at: row.updatedAt.toISOString(),
  };
}

const cursorOf = (row: OrderRow): string => btoa(`${row.createdAt.toISOString()} ${row.id}`);

const CURSOR = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([A-Za-z0-9._:-]{1,64})$/;

function parseCursor(cursor: string): { at: Date; id: string } | undefined {
  try {
    const [, at = '', id = ''] = CURSOR.exec(atob(cursor)) ?? [];
    const date = new Date(at);
    return Number.isNaN(date.getTime()) ? undefined : { at: date, id };
  } catch {
    return undefined;
  }
}
