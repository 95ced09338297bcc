/**
 * What the columns of JSON hold. These schemas describe it, for types and for the OpenAPI document; what is read is not validated by them,
 * so that a row written under other rules stays readable. Apart from the others, because the edge bundle is bounded.
 */
import * as v from 'valibot';
import { VIA } from './actor.ts';
import { State } from './order-status.ts';
import { RecordedAddress } from './shipment.ts';

const text = (description: string) => v.pipe(v.optional(v.string()), v.description(description));
const count = (description: string) => v.pipe(v.optional(v.number()), v.description(description));

/** The fields of every event type's payload; each event carries those that its type names in the descriptions. */
export const EventPayload = v.looseObject({
  run_id: text('order_received: the run that owns the order.'),
  payment_id: text('order_approved, payment_charged, payment_refunded.'),
  approved_at: text('order_approved: when it was, ISO 8601; absent in events of versions up to 0.5.'),
  amount: text('order_validated, payment_charged, payment_refunded: an exact decimal.'),
  currency: text('order_validated, payment_charged, payment_refunded: ISO 4217.'),
  unit_amounts: v.pipe(
    v.optional(v.array(v.string())),
    v.description(
      "order_validated: a piece's price of each item, in the order of `items`; absent without a price list.",
    ),
  ),
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

export const ShipmentPayload = v.looseObject({
  address: v.optional(RecordedAddress),
  tracking: v.pipe(
    v.optional(v.string()),
    v.description("The carrier's tracking number, once it has taken the parcel."),
  ),
});
