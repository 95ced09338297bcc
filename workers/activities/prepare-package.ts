import type { Address } from '@trellis/contracts/order';
import type { ShipmentStore } from '@trellis/drizzle/shipments';
import { type Attempting, attempt, type Work } from './attempt.ts';

export interface ShipmentWork extends Work {
  attempt: number;
  address: Address;
}

/** Packs the parcel for this try; `closed` when the order is not to be shipped (any more). */
export function createPreparePackage(deps: Attempting & { shipments: ShipmentStore }) {
  return async function prepare_package(input: ShipmentWork): Promise<'prepared' | 'closed'> {
    return attempt(deps, input, async () =>
      (await deps.shipments.prepared(input.order_id, input.attempt, input.address)) ? 'prepared' : 'closed',
    );
  };
}
