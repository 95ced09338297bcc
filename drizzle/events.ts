/** The audit trail. Events of one order are written under the order's lock. */

import type { EventType } from '@trellis/contracts/event';
import { Event } from '@trellis/contracts/event';
import { and, asc, eq, gt, sql } from 'drizzle-orm';
import { columnsFor } from './columns.ts';
import type { Session } from './database.ts';
import { events } from './schema.ts';

/** Writes an event once for each order, type and `occurrence`. */
export async function addEvent(
  tx: Session,
  orderId: string,
  type: EventType,
  payload: Event['payload'],
  occurrence?: string | number,
): Promise<void> {
  await tx
    .insert(events)
    .values({ order_id: orderId, type, payload, dedupe_key: dedupeKeyOf(type, occurrence) })
    .onDuplicateKeyUpdate({ set: { id: sql`id` } });
}

/** A page of the order's events, oldest first, after the event with the id `after`. */
export async function eventsOf(
  session: Session,
  orderId: string,
  after: string | undefined,
  limit: number,
): Promise<{ events: Event[]; events_next_cursor: string | null }> {
  const rows = await session
    .select({ id: events.id, event: columnsFor(events, Event) })
    .from(events)
    .where(and(eq(events.order_id, orderId), after === undefined ? undefined : gt(events.id, Number(after))))
    .orderBy(asc(events.id))
    .limit(limit + 1);
  const page = rows.slice(0, limit);
  return {
    events: page.map(({ event }) => event),
    events_next_cursor: rows.length > limit ? `${page.at(-1)?.id}` : null,
  };
}

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
