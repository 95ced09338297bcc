/** A try to ship: one row each. */
import * as v from 'valibot';
import type { Address } from './order.ts';
import { Timestamp } from './timestamp.ts';

export const SHIPMENT_STATUSES = ['prepared', 'dispatched', 'failed'] as const;
export type ShipmentStatus = (typeof SHIPMENT_STATUSES)[number];

export const Shipment = v.object({
  attempt: v.pipe(v.number(), v.integer()),
  status: v.picklist(SHIPMENT_STATUSES),
  payload: v.unknown(),
  ts: Timestamp,
});
export type Shipment = v.InferOutput<typeof Shipment>;

/** A parcel that the carrier has taken, and the address it was taken for. */
export interface Parcel {
  tracking: string;
  address: Address;
}
