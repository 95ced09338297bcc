/** Reads orders; each result is the value of a contract. */
import { OrderError } from '@trellis/contracts/error';
import { type ListInput, type ListOutput, OrderSummary, OrderView } from '@trellis/contracts/order';
import { type Progress, WorkflowStatus } from '@trellis/contracts/order-status';
import type { Run } from '@trellis/contracts/temporal';
import { and, desc, eq, lt, lte, or, sql } from 'drizzle-orm';
import * as v from 'valibot';
import { columnsFor } from './columns.ts';
import type { Database } from './database.ts';
import { eventsOf } from './events.ts';
import type { OrderRow } from './lock-order.ts';
import { paymentsOf } from './payments.ts';
import { orders } from './schema.ts';
import { shipmentsOf } from './shipments.ts';

export type OrderViews = ReturnType<typeof createOrderViews>;

/** The failure reason of a failed order, or the cancel reason of a canceled one. */
const reason = sql<string | null>`COALESCE(${orders.reason}, ${orders.cancel_reason})`;
const SUMMARY = { ...columnsFor(orders, OrderSummary), reason };
const VIEW = {
  ...columnsFor(orders, v.omit(OrderView, ['payments', 'shipments', 'events', 'events_next_cursor'])),
  reason,
};

// The drivers return a comparison as a number or as its digits.
const canceled = sql<boolean>`${orders.state} = 'canceled'`.mapWith((value) => Number(value) === 1);
const STATUS = { ...columnsFor(orders, v.omit(WorkflowStatus, ['canceled'])), canceled };

const PROGRESS = {
  step: orders.step,
  approved: orders.approved,
  child_attempts: orders.child_attempts,
  last_error: orders.last_error,
  dispatch_failed_reason: orders.dispatch_failed_reason,
} satisfies Record<keyof Progress, unknown>;
const RUN = { workflow_id: orders.workflow_id, run_id: orders.run_id } satisfies Record<keyof Run, unknown>;

/** Bounds of a view: callers and the carrier can cause any number of events and shipments. */
const MAX_SHIPMENTS = 100;
const EVENTS_PAGE = 100;

export function createOrderViews(db: Database) {
  return {
    find: (orderId: string): Promise<OrderRow | undefined> =>
      db.run(async (session) => (await session.select().from(orders).where(eq(orders.order_id, orderId)))[0]),

    /** The order with its payments, its newest shipments, and a page of its events. */
    view: (orderId: string, eventsAfter?: string): Promise<OrderView | undefined> =>
      db.run(async (session) => {
        const [order] = await session.select(VIEW).from(orders).where(eq(orders.order_id, orderId));
        if (!order) return undefined;
        return {
          ...order,
          payments: await paymentsOf(session, orderId),
          shipments: await shipmentsOf(session, orderId, MAX_SHIPMENTS),
          ...(await eventsOf(session, orderId, eventsAfter, EVENTS_PAGE)),
        };
      }),

    /** The order's status as it was last written, at `updated_at`. */
    status: (orderId: string): Promise<{ status: WorkflowStatus; updated_at: string } | undefined> =>
      db.run(async (session) => {
        const fields = { status: STATUS, updated_at: orders.updated_at };
        return (await session.select(fields).from(orders).where(eq(orders.order_id, orderId)))[0];
      }),

    /** What SettleWorkflow needs to end the order. `amount` is null until the order is validated. */
    unfinished: (orderId: string) =>
      db.run(async (session) => {
        const { state, payment_id, amount } = orders;
        const fields = { state, payment_id, amount, run: RUN, progress: PROGRESS };
        return (await session.select(fields).from(orders).where(eq(orders.order_id, orderId)))[0];
      }),

    /** Newest first; `next_cursor` continues after the last one. Throws INVALID for any other cursor. */
    list: async ({ state, limit, cursor }: ListInput): Promise<ListOutput> => {
      const after = cursor === undefined ? undefined : parseCursor(cursor);
      const rows = await db.run((session) =>
        session
          .select(SUMMARY)
          // Without the hint MariaDB reads all orders of the state up to the cursor.
          .from(orders, { forceIndex: state ? 'orders_by_state' : 'orders_by_age' })
          .where(and(state && eq(orders.state, state), after && isAfter(after)))
          .orderBy(desc(orders.created_at), desc(orders.order_id))
          .limit(limit + 1),
      );
      const page = rows.slice(0, limit);
      const last = page.at(-1);
      return { orders: page, next_cursor: last && rows.length > limit ? cursorOf(last) : null };
    },
  };
}

type Position = Pick<OrderSummary, 'created_at' | 'order_id'>;

/** The orders after this one in the list. The first condition is redundant, but lets the index be read from that order on. */
const isAfter = ({ created_at, order_id }: Position) =>
  and(
    lte(orders.created_at, created_at),
    or(lt(orders.created_at, created_at), and(eq(orders.created_at, created_at), lt(orders.order_id, order_id))),
  );

/** As JSON, so that a cursor of which a part is missing can't be read. */
const cursorOf = ({ created_at, order_id }: Position): string => btoa(JSON.stringify([created_at, order_id]));

const CURSOR = /^\["(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)","([A-Za-z0-9._:-]{1,64})"\]$/;

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
