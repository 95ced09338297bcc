/** The audit trail. Events of one order are written under the order's lock. */

import type { Event } from '@trellis/contracts/event';
import type { EventType } from '@trellis/contracts/lifecycle';
import { and, asc, eq, sql } from 'drizzle-orm';
import type { Session } from './database.ts';
import { events } from './schema.ts';

/** Writes an event once for each order, type and `occurrence`. */
export async function addEvent(
  tx: Session,
  orderId: string,
  type: EventType,
  payload: unknown,
  occurrence?: string | number,
): Promise<void> {
  const dedupeKey = dedupeKeyOf(type, occurrence);
  await tx
    .insert(events)
    .values({ orderId, type, payloadJson: payload, dedupeKey })
    .onDuplicateKeyUpdate({ set: { id: sql`id` } });
}

export async function eventsOf(session: Session, orderId: string): Promise<Event[]> {
  const rows = await session.select().from(events).where(eq(events.orderId, orderId)).orderBy(asc(events.id));
  return rows.map((row) => ({
    type: row.type,
    payload: row.payloadJson as Event['payload'],
    ts: row.ts.toISOString(),
  }));
}

const dedupeKeyOf = (type: EventType, occurrence?: string | number) =>
  occurrence === undefined ? type : `${type}:${occurrence}`;

/** Whether the event is written already, so that what it tells of must not be done again. */
export async function hasEvent(
  tx: Session,
  orderId: string,
  type: EventType,
  occurrence?: string | number,
): Promise<boolean> {
  const key = and(eq(events.orderId, orderId), eq(events.dedupeKey, dedupeKeyOf(type, occurrence)));
  return (await tx.select({ id: events.id }).from(events).where(key)).length > 0;
}
