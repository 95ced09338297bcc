/**
 * The order's row. Every method is one transaction and may be repeated; an order that has ended is never changed again. A
 * method named by a participle (`validated`, `shipped`) records what has happened.
 */

import { type Actor, type Approval, actorIn, type Decisions, FOREIGN_CALLER, WORKER } from '@trellis/contracts/actor';
import type { Command } from '@trellis/contracts/commands';
import type { ErrorCode } from '@trellis/contracts/error';
import { shopOf } from '@trellis/contracts/id';
import type { Address, OrderInput } from '@trellis/contracts/order';
import type { Progress } from '@trellis/contracts/order-status';
import type { Price } from '@trellis/contracts/pricing';
import {
  type Ending,
  isTerminal,
  movesForward,
  type State,
  type TerminalState,
} from '@trellis/contracts/states-and-steps';
import type { Run } from '@trellis/contracts/temporal';
import { and, eq, inArray, sql } from 'drizzle-orm';
import type { Database, Session } from './database.ts';
import { addEvent, hasEvent, nextEvent, writeEvent } from './events.ts';
import { lockOrder, type OrderRow, saveOrder } from './lock-order.ts';
import { orders, payments } from './schema.ts';
import { failUnfinished } from './shipments.ts';

export type OrderStore = ReturnType<typeof createOrderStore>;

export function createOrderStore(db: Database) {
  return {
    /** Inserts the order and binds it to its first run. For any other run it changes nothing and returns the recorded state. */
    receive: (order: Partial<OrderInput> & { order_id: string }, run: Run, requestHash: string | null) =>
      db.transaction(async (tx): Promise<{ owner: boolean; state: State }> => {
        const { order_id } = order;
        const first = nextEvent(
          { order_id, last_event_hash: null },
          'order_received',
          { run_id: run.run_id },
          { actor: actorIn(order.started_by) },
        );
        await tx
          .insert(orders)
          .values({
            ...order,
            ...run,
            shop: shopOf(order_id),
            state: 'received',
            step: 'receive_order',
            request_hash: requestHash,
            last_event_hash: first.hash,
          })
          // Here and elsewhere a column that is in no key: Vitess updates no column that selects the shard.
          .onDuplicateKeyUpdate({ set: { state: sql`state` } });
        const row = await lockOrder(tx, order_id);
        if (row.run_id !== run.run_id) return { owner: false, state: row.state };
        await writeEvent(tx, first);
        return { owner: true, state: row.state };
      }),

    /**
     * The order is valid, and the review begins. It keeps the price of the first call, also when a repetition finds another one, or none.
     * Returns whether it has one; without, nothing is written.
     */
    validated: (orderId: string, price: Price | undefined) =>
      db.transaction(async (tx): Promise<boolean> => {
        const row = await lockOrder(tx, orderId);
        if (!movesForward(row.state, 'awaiting_approval')) return true;
        if (!price) return false;
        const { amount, currency } = price;
        await addEvent(tx, row, 'order_validated', { ...price });
        await saveOrder(tx, row, { state: 'awaiting_approval', step: 'awaiting_approval', amount, currency });
        return true;
      }),

    /**
     * Writes an accepted address, once for each command, and returns the address that the row then has: a different one if a lost
     * worker had already written this one and a later one. Undefined when the order has ended. `attempts`: the shipping attempts that
     * the order had begun at the decision; if the row has more, the call is an outdated repetition and nothing is written.
     */
    changeAddress: (
      orderId: string,
      address: Address,
      commandId: string,
      { attempts = Number.POSITIVE_INFINITY, actor = FOREIGN_CALLER }: { attempts?: number; actor?: Actor } = {},
    ) =>
      db.transaction(async (tx): Promise<Address | undefined> => {
        const row = await lockOrder(tx, orderId);
        if (isTerminal(row.state)) return undefined;
        const isOutdated = row.child_attempts > attempts;
        if (isOutdated || (await hasEvent(tx, orderId, 'address_updated', commandId))) return row.address ?? undefined;
        await addEvent(tx, row, 'address_updated', { id: commandId }, { occurrence: commandId, actor });
        await saveOrder(tx, row, { address });
        return address;
      }),

    /** A command that was sent as a signal was refused. */
    commandRefused: (
      orderId: string,
      refusal: { command: Command; state: State; code: ErrorCode; id: string },
      actor = FOREIGN_CALLER,
    ) =>
      db.transaction(async (tx) => {
        const row = await lockOrder(tx, orderId);
        if (await addEvent(tx, row, 'command_refused', refusal, { occurrence: refusal.id, actor }))
          await saveOrder(tx, row);
      }),

    /**
     * Ends an order that holds no money. Returns its terminal state, which is the recorded one if it had ended before.
     * Returns `owed`, without a change, when one of its payments may have been charged.
     */
    end: (orderId: string, ending: Ending, progress: Progress, decisions: Decisions = {}) =>
      db.transaction(async (tx): Promise<TerminalState | 'owed'> => {
        const row = await lockOrder(tx, orderId);
        if (isTerminal(row.state)) return row.state;
        const open = and(eq(payments.order_id, orderId), inArray(payments.status, ['pending', 'charged']));
        const [owed] = await tx.select({ id: payments.payment_id }).from(payments).where(open).for('update');
        return owed ? 'owed' : endOrder(tx, row, ending, progress, decisions);
      }),

    /** The carrier has the parcel, and the order ends. */
    shipped: (orderId: string, progress: Progress) =>
      db.transaction(async (tx): Promise<TerminalState> => {
        const row = await lockOrder(tx, orderId);
        if (isTerminal(row.state)) return row.state;
        await addEvent(tx, row, 'order_shipped', { child_attempts: progress.child_attempts });
        await saveOrder(tx, row, { ...progress, state: 'shipped', step: 'done', approved: true });
        return 'shipped';
      }),
  };
}

/** Writes who approved the order, once. */
export const addApproval = (tx: Session, order: OrderRow, { by, at }: Approval) =>
  addEvent(
    tx,
    order,
    'order_approved',
    { ...(order.payment_id !== null && { payment_id: order.payment_id }), approved_at: at },
    { actor: actorIn(by) },
  );

/** Ends the locked order and returns its terminal state; a terminal state recorded before is kept. */
export async function endOrder(
  tx: Session,
  row: OrderRow,
  ending: Ending,
  progress: Progress,
  { approval, canceled_by = FOREIGN_CALLER }: Decisions,
): Promise<TerminalState> {
  if (isTerminal(row.state)) return row.state;
  await failUnfinished(tx, row.order_id);
  // An order may end between its approval and its charge.
  if (approval) await addApproval(tx, row, approval);
  const actor = ending.state === 'canceled' ? canceled_by : WORKER;
  await addEvent(tx, row, `order_${ending.state}`, ending, { actor });
  await saveOrder(tx, row, {
    ...progress,
    state: ending.state,
    ...(ending.state === 'canceled' ? { cancel_reason: ending.reason } : {}),
    ...(ending.state === 'failed' ? { reason: ending.reason } : {}),
  });
  return ending.state;
}
