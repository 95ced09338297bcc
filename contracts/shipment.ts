/** A try to ship: one row each. */
import * as v from 'valibot';

export const SHIPMENT_STATUSES = ['prepared', 'dispatched', 'failed'] as const;
export type ShipmentStatus = (typeof SHIPMENT_STATUSES)[number];

export const Shipment = v.object({
  attempt: v.number(),
  status: v.picklist(SHIPMENT_STATUSES),
  payload: v.unknown(),
  ts: v.string(),
});
export type Shipment = v.InferOutput<typeof Shipment>;
