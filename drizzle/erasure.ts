/** What is erased of an order that has ended, and what `npm run prune` finds to erase. The worker's account changes no event: prune does. */
import type { Actor } from '@trellis/contracts/actor';
import { ERASABLE, type EventType } from '@trellis/contracts/event';
import { isTerminal, type State } from '@trellis/contracts/states-and-steps';
import type { Run } from '@trellis/contracts/temporal';
import { and, asc, eq, gt, gte, inArray, isNotNull, isNull, lt, lte, or, sql } from 'drizzle-orm';
import { now } from './columns.ts';
import type { Database } from './database.ts';
import { erasedEvent } from './event-chain.ts';
import { addEvent } from './events.ts';
import { lockOrder, saveOrder } from './lock-order.ts';
import { attempts, events, orderKeys, orders, shipments } from './schema.ts';

/** How many orders are read at once. */
const PAGE = 500;
/** For the statements of one page. */
const PAGE_TIMEOUT_MS = 60_000;

export type ErasureStore = ReturnType<typeof createErasureStore>;

export function createErasureStore(db: Database) {
  return {
    /** What an erasure has to know of the order; undefined when there is none. */
    find: (orderId: string) =>
      db.run(async (session) => {
        const { state, erased_at, workflow_id, run_id, child_attempts } = orders;
        const run = { workflow_id, run_id } satisfies Record<keyof Run, unknown>;
        const fields = { state, erased_at, run, child_attempts };
        return (await session.select(fields).from(orders).where(eq(orders.order_id, orderId)))[0];
      }),

    /**
     * Erases what is personal in the rows of an ended order, and its key. Its id, its state, its items and its money stay, and its
     * workflow's id. Returns its state: one that is open, or was erased before, stays as it is.
     */
    erase: (orderId: string, actor: Actor) =>
      db.transaction(async (tx): Promise<State> => {
        const order = await lockOrder(tx, orderId);
        if (!isTerminal(order.state) || order.erased_at !== null) return order.state;
        await tx
          .update(shipments)
          .set({ payload: sql`JSON_REMOVE(${shipments.payload}, '$.address')` })
          .where(eq(shipments.order_id, orderId));
        await tx.delete(attempts).where(eq(attempts.order_id, orderId));
        await tx.delete(orderKeys).where(eq(orderKeys.order_id, orderId));
        await addEvent(tx, order, 'order_erased', null, { actor });
        await saveOrder(tx, order, {
          address: null,
          cancel_reason: null,
          last_error: null,
          dispatch_failed_reason: null,
          // Without a key it confirms whoever guesses the address.
          request_hash: null,
          erased_at: now,
          // When it ended.
          updated_at: order.updated_at,
        });
        return order.state;
      }),

    /** Yields the orders that ended more than `days` days ago and are not erased, in pages. */
    async *dueSince(days: number): AsyncGenerator<string[]> {
      const { order_id, state, erased_at, updated_at } = orders;
      const isOld = lt(updated_at, sql`${now} - INTERVAL ${days} DAY`);
      for (let after: { order_id: string; updated_at: string } | undefined, more = true; more; ) {
        const isAfter =
          after &&
          or(gt(updated_at, after.updated_at), and(eq(updated_at, after.updated_at), gt(order_id, after.order_id)));
        const page = await db.run(
          (session) =>
            session
              .select({ order_id, state, erased_at, updated_at })
              .from(orders, { forceIndex: 'orders_by_update' })
              // The second condition is redundant, but lets the index be read from that order on.
              .where(and(isOld, after && gte(updated_at, after.updated_at), isAfter))
              .orderBy(asc(updated_at), asc(order_id))
              .limit(PAGE),
          PAGE_TIMEOUT_MS,
        );
        yield page.filter((row) => isTerminal(row.state) && row.erased_at === null).map((row) => row.order_id);
        after = page.at(-1);
        more = page.length === PAGE;
      }
    },

    /**
     * Yields the orders with events that hold what is to be erased, each with the number of those events, in pages: texts of orders that
     * are erased, and addresses in events of versions up to 0.5.
     */
    async *withPersonalEvents(): AsyncGenerator<Map<string, number>> {
      const { order_id } = orders;
      const { type, payload, salt, hash } = events;
      const mayBePersonal = or(
        and(isNotNull(orders.erased_at), inArray(type, Object.keys(ERASABLE) as EventType[])),
        and(isNull(hash), sql`JSON_EXTRACT(${payload}, '$.address') IS NOT NULL`),
      );
      for (let after: string | undefined = ''; after !== undefined; ) {
        const from: string = after;
        const { last, found } = await db.run(async (session) => {
          const ids = session.select({ order_id }).from(orders).where(gt(order_id, from)).orderBy(asc(order_id));
          const last = (await ids.limit(1).offset(PAGE - 1))[0]?.order_id;
          const chosen = and(gt(order_id, from), last === undefined ? undefined : lte(order_id, last));
          const found = await session
            .select({ order_id, erased_at: orders.erased_at, type, payload, salt, hash })
            .from(orders)
            .innerJoin(events, eq(events.order_id, order_id))
            .where(and(chosen, mayBePersonal));
          return { last, found };
        }, PAGE_TIMEOUT_MS);
        const personal = found.filter((event) => erasedEvent(event, event.erased_at !== null));
        const ofOrder = Map.groupBy(personal, (event) => event.order_id);
        yield new Map([...ofOrder].map(([id, { length }]) => [id, length]));
        after = last;
      }
    },

    /** Erases them in the events of one order. Needs the right to change events. */
    eraseEvents: (orderId: string) =>
      db.transaction(async (tx) => {
        const { erased_at } = await lockOrder(tx, orderId);
        for (const event of await tx.select().from(events).where(eq(events.order_id, orderId))) {
          const erased = erasedEvent(event, erased_at !== null);
          const isThis = and(eq(events.order_id, orderId), eq(events.id, event.id));
          if (erased) await tx.update(events).set(erased).where(isThis);
        }
      }),
  };
}
