import type { Address } from '@trellis/contracts/order';
import type { ShipmentStore } from '@trellis/drizzle/shipments';
import type { Carrier } from '../providers/carrier.ts';
import { type AttemptDeps, attempt } from './attempt.ts';
import type { PreparePackageInput } from './prepare-package.ts';

export interface DispatchCarrierInput extends PreparePackageInput {
  address: Address;
}

export type Dispatched =
  | { outcome: 'taken'; tracking: string }
  | { outcome: 'refused'; reason: string }
  | { outcome: 'closed' };

/** Hands the parcel to the carrier: one parcel for each order, however many shipping attempts it takes. */
export function createDispatchCarrier(deps: AttemptDeps & { shipments: ShipmentStore; carrier: Carrier }) {
  const { shipments, carrier } = deps;
  return async function dispatch_carrier(input: DispatchCarrierInput): Promise<Dispatched> {
    const { order_id, attempt: number, address } = input;
    return attempt(deps, input, async () => {
      const answer = await carrier.dispatch(order_id, address);
      if (answer.outcome === 'refused') await shipments.failed(order_id, number, answer.reason);
      if (answer.outcome !== 'taken') return answer;
      await shipments.dispatched(order_id, number, answer.parcel);
      return { outcome: 'taken', tracking: answer.parcel.tracking };
    });
  };
}
