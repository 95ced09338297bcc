/** Shipping attempts, one row each, and the parcel. */
import * as v from 'valibot';
import type { Address } from './order.ts';
import type { ShipmentPayload } from './recorded-payloads.ts';
import { Timestamp } from './timestamp.ts';

export const SHIPMENT_STATUSES = ['prepared', 'dispatched', 'failed'] as const;
export type ShipmentStatus = (typeof SHIPMENT_STATUSES)[number];

/** An address read from SQL. It is not validated again, so that a row written under other rules stays readable. */
export const RecordedAddress = v.custom<Address>(() => true);

/** A payload read from SQL, not validated again, as `RecordedAddress`. */
export const RecordedShipmentPayload = v.custom<v.InferOutput<typeof ShipmentPayload>>(() => true);

export const Shipment = v.object({
  attempt: v.pipe(v.number(), v.integer(), v.description('The shipping attempt, counted from 1.')),
  status: v.picklist(SHIPMENT_STATUSES),
  payload: v.nullable(RecordedShipmentPayload),
  ts: Timestamp,
});
export type Shipment = v.InferOutput<typeof Shipment>;

/** A parcel that the carrier has taken, and the address it was taken for. */
export interface Parcel {
  tracking: string;
  address: Address;
}
