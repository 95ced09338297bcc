import type { Address } from '@trellis/contracts/order';
import type { ShipmentStore } from '@trellis/drizzle/shipments';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export interface ShippingActivityInput extends ActivityInput {
  /** The number of the shipping attempt, from 1. */
  attempt: number;
  address: Address;
}

/** Records the parcel of this shipping attempt as prepared; returns `closed` when the order must not be shipped. */
export function createPreparePackage(deps: AttemptDeps & { shipments: ShipmentStore }) {
  return async function prepare_package(input: ShippingActivityInput): Promise<'prepared' | 'closed'> {
    return attempt(deps, input, async () =>
      (await deps.shipments.prepared(input.order_id, input.attempt, input.address)) ? 'prepared' : 'closed',
    );
  };
}
