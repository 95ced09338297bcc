/**
 * How much the workers can still take on. Orders are admitted as into a queue in front of the workers, of which only its
 * end is kept: the moment when they will be through with everything admitted so far (GCRA, as rate limiters of networks do).
 */
import { OPEN_STATES } from '@trellis/contracts/lifecycle';
import { and, count, eq, gt, inArray, ne, or, sql } from 'drizzle-orm';
import { type Database, rowsChanged, type Session } from './database.ts';
import { capacity, orders } from './schema.ts';

/** `freeIn`: seconds until the next order can be admitted. */
export type Decision = { admitted: true } | { admitted: false; freeIn: number; ordersPerSecond: number };

export interface Throughput {
  /** As it was promised. */
  ordersPerSecond: number;
  /** Only what shipped counts: an order that ends sooner has cost less. */
  shippedPerSecond: number;
}

export type CapacityStore = ReturnType<typeof createCapacityStore>;

const { ordersPerSecond, busyUntil } = capacity;
const now = sql`CURRENT_TIMESTAMP(6)`;
const seconds = (value: unknown) => sql`INTERVAL ROUND(1000000 * ${value}) MICROSECOND`;
const oneOrder = seconds(sql`1 / ${ordersPerSecond}`);

export function createCapacityStore(db: Database) {
  return {
    /**
     * Takes one more order on if the workers get to it within so many seconds. Not in a transaction: the one row that every
     * start wants would stay locked over several round trips. Done again after a lost answer it may take on one too many,
     * who costs the next one a moment.
     */
    admit: (within: number): Promise<Decision> =>
      db.run(async (session) => {
        // Workers that are slower than they promised have more before them than the promise says.
        const busy = sql`GREATEST(${busyUntil}, ${now} + ${seconds(sql`${await underWay(session, within)} / ${ordersPerSecond}`)})`;
        const taken = await session
          .update(capacity)
          .set({ busyUntil: sql`${busy} + ${oneOrder}` })
          .where(sql`${busy} <= ${now} + ${seconds(within)}`);
        // Whoever sends the same order at the same time isn't told no before this one is told yes.
        if (rowsChanged(taken) === 1) return { admitted: true };
        const busyFor = sql<number>`TIMESTAMPDIFF(MICROSECOND, ${now}, ${busy}) / 1000000`.mapWith(Number);
        const [row] = await session.select({ busyFor, ordersPerSecond }).from(capacity);
        if (!row) throw new Error('the capacity has no row');
        return { admitted: false, freeIn: row.busyFor - within, ordersPerSecond: row.ordersPerSecond };
      }),

    /** Undoes an admission. */
    giveBack: () => db.run((session) => session.update(capacity).set({ busyUntil: sql`${busyUntil} - ${oneOrder}` })),

    /** What the workers, all of them together, promised, and what they shipped in the last `window` seconds. */
    throughput: (window: number): Promise<Throughput> =>
      db.run(async (session) => {
        const [promised] = await session.select({ ordersPerSecond }).from(capacity);
        const [shipped] = await session
          .select({ orders: count() })
          .from(orders)
          .where(and(eq(orders.state, 'shipped'), gt(orders.updatedAt, sql`${now} - ${seconds(window)}`)));
        return { ordersPerSecond: promised?.ordersPerSecond ?? 0, shippedPerSecond: (shipped?.orders ?? 0) / window };
      }),

    /** Sets the rate that is promised from now on. */
    promise: (rate: number) => db.run((session) => session.update(capacity).set({ ordersPerSecond: rate })),
  };
}

/** Open orders, but those that have been waiting for a person for longer than `since` seconds. */
async function underWay(session: Session, since: number): Promise<number> {
  const [open] = await session
    .select({ orders: count() })
    .from(orders)
    .where(
      and(
        inArray(orders.state, [...OPEN_STATES]),
        or(ne(orders.state, 'awaiting_approval'), gt(orders.createdAt, sql`${now} - ${seconds(since)}`)),
      ),
    );
  return open?.orders ?? 0;
}
