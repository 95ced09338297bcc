import type { Address } from '@trellis/contracts/order';
import type { ShipmentStore } from '@trellis/drizzle/shipments';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export interface PreparePackageInput extends ActivityInput {
  /** The number of the shipping attempt, from 1. */
  attempt: number;
}

/** Records the parcel of this shipping attempt as prepared, for the address that the order has; returns `closed` when it must not be shipped. */
export function createPreparePackage(deps: AttemptDeps & { shipments: ShipmentStore }) {
  return async function prepare_package(input: PreparePackageInput): Promise<{ address: Address } | 'closed'> {
    return attempt(deps, input, async () => {
      const address = await deps.shipments.prepared(input.order_id, input.attempt);
      return address ? { address } : 'closed';
    });
  };
}
