/** A row of an order's audit trail. */
import * as v from 'valibot';
import { type Actor as ActorData, VIA } from './actor.ts';
import { State } from './order-status.ts';
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
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

const text = (description: string) => v.pipe(v.optional(v.string()), v.description(description));
const count = (description: string) => v.pipe(v.optional(v.number()), v.description(description));

/** The fields of every event type's payload; each event carries those that its type names in the descriptions. */
export const EventPayload = v.looseObject({
  run_id: text('order_received: the run that owns the order.'),
  payment_id: text('order_approved, payment_charged, payment_refunded.'),
  approved_at: text('order_approved: when it was, ISO 8601; absent in events of versions up to 0.5.'),
  amount: text('order_validated, payment_charged, payment_refunded: an exact decimal.'),
  currency: text('order_validated, payment_charged, payment_refunded: ISO 4217.'),
  attempt: count('package_prepared, carrier_dispatched, dispatch_failed: the shipping attempt.'),
  tracking: text("carrier_dispatched: the carrier's tracking number."),
  child_attempts: count('order_shipped: shipping attempts in all.'),
  state: v.optional(State),
  reason: text('order_failed: a failure reason; order_canceled: the cancel reason; dispatch_failed: a message.'),
  detail: text('order_failed: a message.'),
  command: text('command_refused: the command.'),
  code: text('command_refused: the error code.'),
  id: text("address_updated, command_refused: the command's id."),
});

/** A payload read from SQL, not validated again, as `RecordedAddress`. */
export const RecordedEventPayload = v.custom<v.InferOutput<typeof EventPayload>>(() => true);

/** Who did it; contracts' Actor. */
export const Actor = v.object({
  sub: v.pipe(v.string(), v.description("The subject of the caller's token."), v.examples(['jane'])),
  shop: v.pipe(v.optional(v.string()), v.description('The shop of the token.')),
  via: v.pipe(
    v.string(),
    v.description(
      `The issuer of the token. \`${VIA.open}\`: through an API that asks for none. \`${VIA.temporal}\`: another caller of Temporal. \`${VIA.worker}\`: the product itself.`,
    ),
    v.examples(['https://login.example.com/']),
  ),
});

/** An actor read from SQL, not validated again, as `RecordedAddress`. */
export const RecordedActor = v.custom<ActorData>(() => true);

export const Event = v.object({
  type: v.picklist(EVENT_TYPES),
  actor: v.pipe(v.nullable(RecordedActor), v.description('Who did it; null in events of versions up to 0.5.')),
  payload: v.nullable(RecordedEventPayload),
  ts: Timestamp,
});
export type Event = v.InferOutput<typeof Event>;
