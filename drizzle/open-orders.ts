/** Reads the orders that have not ended, for the sweep and the settling. Apart from order-views.ts, which is in the edge bundle. */
import type { Progress } from '@trellis/contracts/order-status';
import type { OpenState } from '@trellis/contracts/states-and-steps';
import type { Run } from '@trellis/contracts/temporal';
import { and, eq, gt, gte, lt, or, sql } from 'drizzle-orm';
import { now } from './columns.ts';
import type { Database } from './database.ts';
import type { OrderRow } from './lock-order.ts';
import { orders } from './schema.ts';

/** An order that has not ended. `idle_ms`: milliseconds since its row was last changed, by the database's clock. */
export type OpenOrder = Run & Pick<OrderRow, 'order_id' | 'created_at' | 'state' | 'policy'> & { idle_ms: number };

const OPEN_ORDER = {
  order_id: orders.order_id,
  workflow_id: orders.workflow_id,
  run_id: orders.run_id,
  created_at: orders.created_at,
  state: orders.state,
  policy: orders.policy,
  idle_ms: sql<number>`TIMESTAMPDIFF(MICROSECOND, ${orders.updated_at}, ${now}) / 1000`.mapWith(Number),
} satisfies Record<keyof OpenOrder, unknown>;

const PROGRESS = {
  step: orders.step,
  approved: orders.approved,
  child_attempts: orders.child_attempts,
  last_error: orders.last_error,
  dispatch_failed_reason: orders.dispatch_failed_reason,
} satisfies Record<keyof Progress, unknown>;
const RUN = { workflow_id: orders.workflow_id, run_id: orders.run_id } satisfies Record<keyof Run, unknown>;

type Position = Pick<OpenOrder, 'created_at' | 'order_id'>;

export type OpenOrders = ReturnType<typeof createOpenOrders>;

export function createOpenOrders(db: Database) {
  return {
    /** What SettleWorkflow needs to end the order. `amount` is null until the order is validated. */
    unfinished: (orderId: string) =>
      db.run(async (session) => {
        const { state, payment_id, amount } = orders;
        const fields = { state, payment_id, amount, run: RUN, progress: PROGRESS };
        return (await session.select(fields).from(orders).where(eq(orders.order_id, orderId)))[0];
      }),

    /** At most `limit` orders in a state that are older than a minute, oldest first, after the order `after`. */
    inState: (state: OpenState, after: Position | undefined, limit: number): Promise<OpenOrder[]> =>
      db.run((session) =>
        session
          .select(OPEN_ORDER)
          .from(orders, { forceIndex: 'orders_by_state' })
          .where(
            and(
              eq(orders.state, state),
              lt(orders.created_at, sql`${now} - INTERVAL 1 MINUTE`),
              after && isAfter(after),
            ),
          )
          .orderBy(orders.created_at, orders.order_id)
          .limit(limit),
      ),
  };
}

/** The first condition is redundant, but lets the index be read from that order on. */
const isAfter = ({ created_at, order_id }: Position) =>
  and(
    gte(orders.created_at, created_at),
    or(gt(orders.created_at, created_at), and(eq(orders.created_at, created_at), gt(orders.order_id, order_id))),
  );
