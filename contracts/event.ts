/** A row of an order's audit trail. */
import * as v from 'valibot';
import type { Actor } from './actor.ts';
import type { EventPayload } from './recorded-payloads.ts';
import { Timestamp } from './timestamp.ts';

/** The types of the rows in `events`, an order's audit trail. */
export const EVENT_TYPES = [
  'order_received',
  'order_validated',
  'order_approved',
  'payment_charged',
  'package_prepared',
  'carrier_dispatched',
  'dispatch_failed',
  'order_shipped',
  'order_canceled',
  'order_expired',
  'order_failed',
  'payment_refunded',
  'address_updated',
  'command_refused',
  'order_erased',
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** The keys of payloads with texts that may hold personal data. The chain of events allows to erase them (drizzle's event-chain.ts). */
export const ERASABLE: Partial<Record<EventType, string>> = {
  order_canceled: 'reason',
  dispatch_failed: 'reason',
  order_failed: 'detail',
};

/** A payload read from SQL, not validated again, as `RecordedAddress`. */
export const RecordedEventPayload = v.custom<v.InferOutput<typeof EventPayload>>(() => true);

/** An actor read from SQL, not validated again, as `RecordedAddress`. */
export const RecordedActor = v.custom<Actor>(() => true);

export const Event = v.object({
  type: v.picklist(EVENT_TYPES),
  actor: v.pipe(v.nullable(RecordedActor), v.description('Who did it; null in events of versions up to 0.5.')),
  payload: v.nullable(RecordedEventPayload),
  ts: Timestamp,
});
export type Event = v.InferOutput<typeof Event>;
