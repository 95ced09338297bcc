/**
 * Admission of orders, by the generic cell rate algorithm (GCRA) of network rate limiters. The workers serve a virtual queue
 * of admitted orders at `orders_per_second`; only the queue's end is stored, as the time `busy_until`.
 */
import { OPEN_STATES } from '@trellis/contracts/states-and-steps';
import { and, count, eq, gt, inArray, ne, or, sql } from 'drizzle-orm';
import { type Database, DatabaseError, rowsChanged, type Session } from './database.ts';
import { capacity, orders } from './schema.ts';

/** `freeIn`: seconds until the next order can be admitted. */
type Decision = { admitted: true } | { admitted: false; freeIn: number; ordersPerSecond: number };

export interface Rates {
  /** The rate at which orders are admitted. */
  ordersPerSecond: number;
  /** The rate at which orders shipped; orders that ended otherwise cost less work and don't count. */
  shippedPerSecond: number;
}

export type CapacityStore = ReturnType<typeof createCapacityStore>;

const { orders_per_second: ordersPerSecond, busy_until: busyUntil } = capacity;
const now = sql`CURRENT_TIMESTAMP(6)`;
const seconds = (value: unknown) => sql`INTERVAL ROUND(1000000 * ${value}) MICROSECOND`;
const oneOrder = seconds(sql`1 / ${ordersPerSecond}`);

export function createCapacityStore(db: Database) {
  return {
    /**
     * Admits one order if the workers can begin it within `queueSeconds`. Runs outside of a transaction: that would
     * lock the one row that every start updates for several round trips. A retry after a lost answer may count an order
     * twice, which delays the next one a little.
     */
    admit: (queueSeconds: number): Promise<Decision> =>
      db.run(async (session) => {
        // When the workers are slower than their rate, more orders are open than `busy_until` accounts for: the later time counts.
        const open = await openOrders(session, queueSeconds);
        const busy = sql`GREATEST(${busyUntil}, ${now} + ${seconds(sql`${open} / ${ordersPerSecond}`)})`;
        const updated = await session
          .update(capacity)
          .set({ busy_until: sql`${busy} + ${oneOrder}` })
          .where(sql`${busy} <= ${now} + ${seconds(queueSeconds)}`);
        // Return before the next query, so that a concurrent retry of the same order finds it already admitted.
        if (rowsChanged(updated) === 1) return { admitted: true };
        const busyFor = sql<number>`TIMESTAMPDIFF(MICROSECOND, ${now}, ${busy}) / 1000000`.mapWith(Number);
        const [row] = await session.select({ busyFor, ordersPerSecond }).from(capacity);
        if (!row) throw new DatabaseError('the table capacity has no row');
        return { admitted: false, freeIn: row.busyFor - queueSeconds, ordersPerSecond: row.ordersPerSecond };
      }),

    /** Undoes an admission. */
    release: () => db.run((session) => session.update(capacity).set({ busy_until: sql`${busyUntil} - ${oneOrder}` })),

    /** The rate of admission, and the rate at which all workers together shipped during the last `windowSeconds`. */
    rates: (windowSeconds: number): Promise<Rates> =>
      db.run(async (session) => {
        const [admitted] = await session.select({ ordersPerSecond }).from(capacity);
        const [shipped] = await session
          .select({ orders: count() })
          .from(orders)
          .where(and(eq(orders.state, 'shipped'), gt(orders.updated_at, sql`${now} - ${seconds(windowSeconds)}`)));
        return {
          ordersPerSecond: admitted?.ordersPerSecond ?? 0,
          shippedPerSecond: (shipped?.orders ?? 0) / windowSeconds,
        };
      }),

    /** Sets the rate at which orders are admitted from now on. */
    setRate: (rate: number) => db.run((session) => session.update(capacity).set({ orders_per_second: rate })),
  };
}

/** The number of open orders, without those that await approval and were created more than `queueSeconds` ago. */
async function openOrders(session: Session, queueSeconds: number): Promise<number> {
  const [open] = await session
    .select({ orders: count() })
    .from(orders)
    .where(
      and(
        inArray(orders.state, [...OPEN_STATES]),
        or(ne(orders.state, 'awaiting_approval'), gt(orders.created_at, sql`${now} - ${seconds(queueSeconds)}`)),
      ),
    );
  return open?.orders ?? 0;
}
