/** A row of an order's audit trail. */
import * as v from 'valibot';
import { State } from './order-status.ts';
import { RecordedAddress } from './shipment.ts';
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
  amount: text('order_validated, payment_charged, payment_refunded: an exact decimal.'),
  currency: text('order_validated, payment_charged, payment_refunded: ISO 4217.'),
  attempt: count('package_prepared, carrier_dispatched, dispatch_failed: the shipping attempt.'),
  address: v.optional(RecordedAddress),
  tracking: text("carrier_dispatched: the carrier's tracking number."),
  child_attempts: count('order_shipped: shipping attempts in all.'),
  state: v.optional(State),
  reason: text('order_failed: a failure reason; order_canceled: the cancel reason; dispatch_failed: a message.'),
  detail: text('order_failed: a message.'),
  command: text('command_refused: the command.'),
  code: text('command_refused: the error code.'),
  id: text("command_refused: the command's id."),
});

/** A payload read from SQL, not validated again, as `RecordedAddress`. */
export const RecordedEventPayload = v.custom<v.InferOutput<typeof EventPayload>>(() => true);

export const Event = v.object({
  type: v.picklist(EVENT_TYPES),
  payload: v.nullable(RecordedEventPayload),
  ts: Timestamp,
});
export type Event = v.InferOutput<typeof Event>;
