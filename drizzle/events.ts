/** The audit trail. Events of one order are written under the order's lock. */

import type { Event } from '@trellis/contracts/event';
import type { EventType } from '@trellis/contracts/lifecycle';
import { asc, eq, sql } from 'drizzle-orm';
import type { Session } from './client.ts';
import { events } from './schema.ts';

/** Writes an event once for each order, type and `occurrence`. */
export async function addEvent(
  tx: Session,
  orderId: string,
  type: EventType,
  payload: unknown,
  occurrence?: string | number,
): Promise<void> {
  const dedupeKey = occurrence === undefined ? type : `${type}:${occurrence}`;
  await tx
    .insert(events)
    .values({ orderId, type, payloadJson: payload, dedupeKey })
    .onDuplicateKeyUpdate({ set: { id: sql`id` } });
}

export async function eventsOf(session: Session, orderId: string): Promise<Event[]> {
  const rows = await session.select().from(events).where(eq(events.orderId, orderId)).orderBy(asc(events.id));
  return rows.map((row) => ({ type: row.type, payload: row.payloadJson, ts: row.ts.toISOString() }));
}
