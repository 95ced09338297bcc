/**
 * Admission of orders, by the generic cell rate algorithm (GCRA) of network rate limiters. The workers serve a virtual queue
 * of admitted orders at `orders_per_second`; only the queue's end is stored, as the time `busy_until`.
 */
import { OPEN_STATES } from '@trellis/contracts/states-and-steps';
import { and, count, eq, gt, inArray, lte, sql } from 'drizzle-orm';
import { type Database, DatabaseError, rowsChanged, type Session } from './database.ts';
import { capacity, orders, shopCapacity } from './schema.ts';

/** `freeIn`: seconds until the next order can be admitted. */
type Decision = { admitted: true } | { admitted: false; freeIn: number; ordersPerSecond: number };

export interface Rates {
  /** The rate at which orders are admitted. */
  ordersPerSecond: number;
  /** The rate at which orders shipped; orders that ended otherwise cost less work and don't count. */
  shippedPerSecond: number;
}

/** Admits orders, for the API. */
export type AdmissionStore = ReturnType<typeof createAdmissionStore>;
/** Also stores what the workers measure. */
export type CapacityStore = ReturnType<typeof createCapacityStore>;

/** Workers have nothing to do for an order that awaits an approval. */
const IN_WORK = OPEN_STATES.filter((state) => state !== 'awaiting_approval');
/** The shortest pause between two counts, however many workers there are. */
const COUNT_INTERVAL_MS = 1_000;
/** The pause is at least this many times as long as the count took: counting takes at most a hundredth of the time. */
const COUNT_PAUSE_FACTOR = 100;
const COUNT_TIMEOUT_MS = 10_000;
/** After this another worker counts, when the one that began to count was killed or did not succeed. */
const COUNT_LEASE_MS = 60_000;

const {
  orders_per_second: ordersPerSecond,
  busy_until: busyUntil,
  open_orders: openOrders,
  counted_at: countedAt,
  next_count_at: nextCountAt,
} = capacity;
const now = sql`CURRENT_TIMESTAMP(6)`;
const seconds = (value: unknown) => sql`INTERVAL ROUND(1000000 * ${value}) MICROSECOND`;
const oneOrder = seconds(sql`1 / ${ordersPerSecond}`);
/**
 * When the workers will have finished what they have. When they are slower than their rate, or orders are started without
 * admission, more orders are open than `busy_until` accounts for: the later time counts. A count loses its weight as it ages.
 */
const busy = sql`GREATEST(${now}, ${busyUntil}, ${countedAt} + ${seconds(sql`${openOrders} / ${ordersPerSecond}`)})`;

/**
 * A shop that has more than its share of the workers, a quarter, waiting in half of the queue's time may fill only half of the queue:
 * the rest is for shops that wait for less. The workers never idle for it, and a shop that is alone gets all of them.
 */
const SHARES = 4;
const { shop: shopId, busy_until: shopBusyUntil } = shopCapacity;
const oneOrderOfShop = seconds(sql`${SHARES} / ${ordersPerSecond}`);
const secondsUntil = (time: unknown) =>
  sql<number>`TIMESTAMPDIFF(MICROSECOND, ${now}, ${time}) / 1000000`.mapWith(Number);

export function createAdmissionStore(db: Database) {
  async function admitOfShop(session: Session, queueSeconds: number, shop: string): Promise<Decision> {
    const half = queueSeconds / 2;
    const mayFill = sql`IF(${shopBusyUntil} <= ${now} + ${seconds(half)}, ${queueSeconds}, ${half})`;
    const admit = () =>
      session.execute(sql`
        UPDATE ${capacity} JOIN ${shopCapacity} ON ${shopId} = ${shop}
        SET ${busyUntil} = ${busy} + ${oneOrder}, ${shopBusyUntil} = GREATEST(${now}, ${shopBusyUntil}) + ${oneOrderOfShop}
        WHERE ${busy} <= ${now} + ${seconds(mayFill)}`);
    if (rowsChanged(await admit()) > 0) return { admitted: true };
    const read = { busyFor: secondsUntil(busy), shopBusyFor: secondsUntil(shopBusyUntil), ordersPerSecond };
    const find = () =>
      session.select(read).from(capacity).leftJoin(shopCapacity, eq(shopId, shop)) as unknown as Promise<
        { busyFor: number; shopBusyFor: number | null; ordersPerSecond: number }[]
      >;
    const [row] = await find();
    if (!row) throw new DatabaseError('the table capacity has no row');
    const { busyFor, shopBusyFor } = row;
    if (shopBusyFor === null)
      await session
        .insert(shopCapacity)
        .values({ shop })
        .onDuplicateKeyUpdate({ set: { busy_until: sql`busy_until` } });
    const freeIn = Math.min(busyFor - half, Math.max(busyFor - queueSeconds, (shopBusyFor ?? 0) - half));
    // The shop had no row at first, or there is room again meanwhile.
    if (freeIn <= 0 && rowsChanged(await admit()) > 0) return { admitted: true };
    return { admitted: false, freeIn, ordersPerSecond: row.ordersPerSecond };
  }

  return {
    /**
     * Admits one order if the workers can begin it within `queueSeconds`. Touches one row, and one of its shop, however many orders are
     * open. Runs outside of a transaction: that would lock the one row that every start updates for several round trips. A retry after
     * a lost answer may count an order twice, which delays the next one a little.
     */
    admit: (queueSeconds: number, shop = ''): Promise<Decision> =>
      db.run(async (session) => {
        if (shop !== '') return admitOfShop(session, queueSeconds, shop);
        const updated = await session
          .update(capacity)
          .set({ busy_until: sql`${busy} + ${oneOrder}` })
          .where(sql`${busy} <= ${now} + ${seconds(queueSeconds)}`);
        // Return before the next query, so that a concurrent retry of the same order finds it already admitted.
        if (rowsChanged(updated) === 1) return { admitted: true };
        const [row] = await session.select({ busyFor: secondsUntil(busy), ordersPerSecond }).from(capacity);
        if (!row) throw new DatabaseError('the table capacity has no row');
        return { admitted: false, freeIn: row.busyFor - queueSeconds, ordersPerSecond: row.ordersPerSecond };
      }),

    /** Undoes an admission. */
    release: (shop = '') =>
      db.run(async (session) => {
        await session.update(capacity).set({ busy_until: sql`${busyUntil} - ${oneOrder}` });
        if (shop === '') return;
        await session.execute(sql`
          UPDATE ${shopCapacity} JOIN ${capacity} ON ${shopId} = ${shop} SET ${shopBusyUntil} = ${shopBusyUntil} - ${oneOrderOfShop}`);
      }),

    /** How many orders of a shop await an approval; counts no further than `most`. */
    awaitingApproval: (shop: string, most: number): Promise<number> =>
      db.run(async (session) => {
        const some = session
          .select({ id: orders.order_id })
          .from(orders, { forceIndex: 'orders_of_shop_by_state' })
          .where(and(eq(orders.shop, shop), eq(orders.state, 'awaiting_approval')))
          .limit(most)
          .as('some');
        const [counted] = await session.select({ orders: count() }).from(some);
        return counted?.orders ?? 0;
      }),
  };
}

export function createCapacityStore(db: Database) {
  return {
    ...createAdmissionStore(db),

    /**
     * Counts the open orders for `admit`, unless a worker has just done so: any number of workers may call it at any time.
     */
    countOpenOrders: async (): Promise<void> => {
      const claim = (session: Session) =>
        session
          .update(capacity)
          .set({ next_count_at: sql`${now} + ${seconds(COUNT_LEASE_MS / 1000)}` })
          .where(lte(nextCountAt, now));
      if (rowsChanged(await db.run(claim)) === 0) return;
      const began = performance.now();
      const [open] = await db.run(
        (session) => session.select({ orders: count() }).from(orders).where(inArray(orders.state, IN_WORK)),
        COUNT_TIMEOUT_MS,
      );
      const tookMs = performance.now() - began;
      const pauseMs = Math.max(COUNT_INTERVAL_MS, COUNT_PAUSE_FACTOR * tookMs);
      await db.run((session) =>
        session.update(capacity).set({
          open_orders: open?.orders ?? 0,
          counted_at: sql`${now} - ${seconds(tookMs / 1000)}`,
          next_count_at: sql`${now} + ${seconds(pauseMs / 1000)}`,
        }),
      );
    },

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
