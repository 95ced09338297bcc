/** Reads orders; each result is the value of a contract. */
import { OrderError } from '@trellis/contracts/error';
import { ERASABLE, Event } from '@trellis/contracts/event';
import { type ListInput, type ListOutput, OrderSummary, OrderView } from '@trellis/contracts/order';
import { FailedAttempt, WorkflowStatus } from '@trellis/contracts/order-status';
import { Payment } from '@trellis/contracts/payment';
import { Shipment } from '@trellis/contracts/shipment';
import { and, asc, desc, eq, gt, lt, lte, or, sql } from 'drizzle-orm';
import * as v from 'valibot';
import { columnsFor } from './columns.ts';
import type { Database } from './database.ts';
import type { OrderRow } from './lock-order.ts';
import { oneStatement } from './one-statement.ts';
import { attempts, events, orders, payments, shipments } from './schema.ts';

export type OrderViews = ReturnType<typeof createOrderViews>;

/** The failure reason of a failed order, or the cancel reason of a canceled one. */
const reason = sql<string | null>`COALESCE(${orders.reason}, ${orders.cancel_reason})`;
const SUMMARY = { ...columnsFor(orders, OrderSummary), reason };
const VIEW = {
  ...columnsFor(orders, v.omit(OrderView, ['payments', 'shipments', 'events', 'events_next_cursor'])),
  reason,
};

const STATUS = columnsFor(orders, v.omit(WorkflowStatus, ['canceled']));

/** Bounds of a view: callers and the carrier can cause any number of events and shipments. */
const MAX_SHIPMENTS = 100;
const EVENTS_PAGE = 100;

const ORDER_ID = sql.placeholder('order_id');

const readView = oneStatement({
  order: { fields: VIEW, from: orders, where: eq(orders.order_id, ORDER_ID) },
  payments: { fields: columnsFor(payments, Payment), from: payments, where: eq(payments.order_id, ORDER_ID) },
  shipments: {
    fields: columnsFor(shipments, Shipment),
    from: shipments,
    where: eq(shipments.order_id, ORDER_ID),
    first: { by: desc(shipments.attempt), most: MAX_SHIPMENTS },
  },
  events: {
    fields: { id: events.id, ...columnsFor(events, Event) },
    from: events,
    where: and(eq(events.order_id, ORDER_ID), gt(events.id, sql.placeholder('events_after'))),
    first: { by: asc(events.id), most: EVENTS_PAGE + 1 },
  },
});

const failures = sql<number | string>`COUNT(*) OVER (PARTITION BY ${attempts.step})`;
const readStatus = oneStatement({
  order: { fields: { ...STATUS, updated_at: orders.updated_at }, from: orders, where: eq(orders.order_id, ORDER_ID) },
  attempts: {
    fields: { id: attempts.id, ...columnsFor(attempts, FailedAttempt), failures },
    from: attempts,
    where: eq(attempts.order_id, ORDER_ID),
    first: { by: desc(attempts.id), most: sql.placeholder('errors') },
  },
});

/** The order's status as it was last written, at `updated_at`; null without a row. */
type RecordedStatus = { status: WorkflowStatus; updated_at: string } | null;

export interface RecentAttempts {
  /** The newest failed attempts, newest first. */
  errors: FailedAttempt[];
  /** The number of recorded failures of the activity that failed last. */
  failures: number;
}

export function createOrderViews(db: Database) {
  return {
    find: (orderId: string): Promise<OrderRow | undefined> =>
      db.run(async (session) => (await session.select().from(orders).where(eq(orders.order_id, orderId)))[0]),

    /** The order with its payments, its newest shipments, and a page of its events. */
    view: async (orderId: string, eventsAfter = '0'): Promise<OrderView | undefined> => {
      const values = { order_id: orderId, events_after: Number(eventsAfter) };
      const { order, ...read } = await db.run((session) => readView(session, values));
      if (!order[0]) return undefined;
      const ascending = read.events.sort((one, other) => one.id - other.id);
      const page = ascending.slice(0, EVENTS_PAGE);
      return {
        ...order[0],
        payments: read.payments.sort((one, other) => one.created_at.localeCompare(other.created_at)),
        shipments: read.shipments.sort((one, other) => one.attempt - other.attempt),
        events: page.map(({ id, ...event }) => (order[0]?.erased_at ? withoutTexts(event) : event)),
        events_next_cursor: ascending.length > EVENTS_PAGE ? `${page.at(-1)?.id}` : null,
      };
    },

    /** The order's status, and its newest `errors` failed attempts. */
    status: async (orderId: string, errors: number): Promise<{ recorded: RecordedStatus; recent: RecentAttempts }> => {
      const read = await db.run((session) => readStatus(session, { order_id: orderId, errors }));
      const [order] = read.order;
      const newestFirst = read.attempts.sort((one, other) => other.id - one.id);
      return {
        recorded: order ? recordedOf(order) : null,
        recent: {
          errors: newestFirst.map(({ id, failures, ...failed }) => failed),
          failures: Number(newestFirst[0]?.failures ?? 0),
        },
      };
    },

    /** Newest first, of one shop or of all; `next_cursor` continues after the last one. Throws INVALID for any other cursor. */
    list: async ({ state, limit, cursor }: ListInput, shop?: string): Promise<ListOutput> => {
      const after = cursor === undefined ? undefined : parseCursor(cursor);
      const rows = await db.run((session) =>
        session
          .select(SUMMARY)
          // Without the hint MariaDB reads all orders of the state up to the cursor.
          .from(orders, { forceIndex: listIndex(shop !== undefined, state !== undefined) })
          .where(
            and(
              shop === undefined ? undefined : eq(orders.shop, shop),
              state && eq(orders.state, state),
              after && isAfter(after),
            ),
          )
          .orderBy(desc(orders.created_at), desc(orders.order_id))
          .limit(limit + 1),
      );
      const page = rows.slice(0, limit);
      const last = page.at(-1);
      return { orders: page, next_cursor: last && rows.length > limit ? cursorOf(last) : null };
    },
  };
}

/** Prune erases them in the table (erasure.ts). */
function withoutTexts(event: Event): Event {
  const { [ERASABLE[event.type] ?? '']: _, address: __, ...payload } = event.payload ?? {};
  return { ...event, payload: event.payload && payload };
}

const recordedOf = ({ updated_at, ...status }: Omit<WorkflowStatus, 'canceled'> & { updated_at: string }) => ({
  status: { ...status, canceled: status.state === 'canceled' },
  updated_at,
});

const listIndex = (ofShop: boolean, ofState: boolean) => {
  if (ofShop) return ofState ? 'orders_of_shop_by_state' : 'orders_of_shop';
  return ofState ? 'orders_by_state' : 'orders_by_age';
};

type Position = Pick<OrderSummary, 'created_at' | 'order_id'>;

/** The orders after this one in the list. The first condition is redundant, but lets the index be read from that order on. */
const isAfter = ({ created_at, order_id }: Position) =>
  and(
    lte(orders.created_at, created_at),
    or(lt(orders.created_at, created_at), and(eq(orders.created_at, created_at), lt(orders.order_id, order_id))),
  );

/** As JSON, so that a cursor of which a part is missing can't be read. */
const cursorOf = ({ created_at, order_id }: Position): string => btoa(JSON.stringify([created_at, order_id]));

const CURSOR = /^\["(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)","([A-Za-z0-9._:~-]{1,97})"\]$/;

function parseCursor(cursor: string): Position {
  try {
    const [, created_at = '', order_id = ''] = CURSOR.exec(atob(cursor)) ?? [];
    // Throws on what is no date.
    return { created_at: new Date(created_at).toISOString(), order_id };
  } catch {
    const problem = { path: 'cursor', message: 'must be the next_cursor of an answer' };
    throw new OrderError('INVALID', `${problem.path}: ${problem.message}`, { errors: [problem] });
  }
}
