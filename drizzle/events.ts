/** The audit trail. Events of one order are written under the order's lock. */

import { type Actor, WORKER } from '@trellis/contracts/actor';
import type { Event, EventType } from '@trellis/contracts/event';
import { and, eq, sql } from 'drizzle-orm';
import type { Session } from './database.ts';
import { events } from './schema.ts';

/** Writes an event once for each order, type and `occurrence`. `actor`: by default the product itself. */
export async function addEvent(
  tx: Session,
  orderId: string,
  type: EventType,
  payload: Event['payload'],
  { occurrence, actor = WORKER }: { occurrence?: string | number; actor?: Actor } = {},
): Promise<void> {
  await tx
    .insert(events)
    .values({ order_id: orderId, type, payload, actor, dedupe_key: dedupeKeyOf(type, occurrence) })
    .onDuplicateKeyUpdate({ set: { id: sql`id` } });
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
