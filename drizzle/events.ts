/** The audit trail. Events of one order are written under the order's lock, and never changed: that needs no right but INSERT. */

import { type Actor, WORKER } from '@trellis/contracts/actor';
import type { Event, EventType } from '@trellis/contracts/event';
import { and, eq } from 'drizzle-orm';
import { rowsChanged, type Session } from './database.ts';
import { hashOf, saltFor } from './event-chain.ts';
import type { OrderRow } from './lock-order.ts';
import { events } from './schema.ts';

type NewEvent = typeof events.$inferInsert & { hash: string };
type Chain = Pick<OrderRow, 'order_id' | 'last_event_hash'>;

/** `occurrence`: which one of its type, where an order may have several. `actor`: by default the product itself. */
interface EventOptions {
  occurrence?: string | number;
  actor?: Actor;
}

/** The event that follows the last one of the order. */
export function nextEvent(
  { order_id, last_event_hash }: Chain,
  type: EventType,
  payload: Event['payload'],
  { occurrence, actor = WORKER }: EventOptions = {},
): NewEvent {
  const dedupe_key = dedupeKeyOf(type, occurrence);
  const event = { order_id, type, payload, actor, dedupe_key, salt: saltFor(type, payload) };
  return { ...event, hash: hashOf(last_event_hash, event) };
}

/** Writes the event, unless one of its order, type and occurrence is there. Returns whether it was written. */
export async function writeEvent(tx: Session, event: NewEvent): Promise<boolean> {
  // ON DUPLICATE KEY UPDATE needs the right to UPDATE, and the locks of INSERT … SELECT … WHERE NOT EXISTS deadlock orders with one another.
  // IGNORE also hides that a value is cut, which only the key's could be: all others have a fixed length, or may be of any.
  if (!DEDUPE_KEY.test(event.dedupe_key)) throw new Error(`an event of type ${event.type} has no valid key`);
  return rowsChanged(await tx.insert(events).ignore().values(event)) > 0;
}

/**
 * Writes an event of the locked order once for each type and occurrence. Returns whether it was written: then `last_event_hash` of `order`
 * is new, and the caller saves the order (`saveOrder`) after its last event.
 */
export async function addEvent(
  tx: Session,
  order: Chain,
  type: EventType,
  payload: Event['payload'],
  options?: EventOptions,
): Promise<boolean> {
  const event = nextEvent(order, type, payload, options);
  const written = await writeEvent(tx, event);
  if (written) order.last_event_hash = event.hash;
  return written;
}

/** What the column `dedupe_key` takes. */
const DEDUPE_KEY = /^[\x20-\x7e]{1,160}$/;

const dedupeKeyOf = (type: EventType, occurrence?: string | number) =>
  occurrence === undefined ? type : `${type}:${occurrence}`;

/** Whether the event is already written, in which case its effect must not be repeated. */
export async function hasEvent(
  tx: Session,
  orderId: string,
  type: EventType,
  occurrence?: string | number,
): Promise<boolean> {
  const key = and(eq(events.order_id, orderId), eq(events.dedupe_key, dedupeKeyOf(type, occurrence)));
  return (await tx.select({ id: events.id }).from(events).where(key)).length > 0;
}
