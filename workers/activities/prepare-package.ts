import type { Address } from '@trellis/contracts/order';
import type { ShipmentStore } from '@trellis/drizzle/shipments';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export interface ShippingActivityInput extends ActivityInput {
  attempt: number;
  address: Address;
}

/** Packs the parcel for this try; `closed` when the order is not to be shipped (any more). */
export function createPreparePackage(deps: AttemptDeps & { shipments: ShipmentStore }) {
  return async function prepare_package(input: ShippingActivityInput): Promise<'prepared' | 'closed'> {
    return attempt(deps, input, async () =>
      (await deps.shipments.prepared(input.order_id, input.attempt, input.address)) ? 'prepared' : 'closed',
    );
  };
}
