import type { Carrier } from '../providers/carrier.ts';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

/** Closes the carrier's key, so that no parcel of this order is taken from then on. Returns `taken` when the carrier already has it. */
export function createCloseParcel(deps: AttemptDeps & { carrier: Carrier }) {
  return async function close_parcel(input: ActivityInput): Promise<'closed' | 'taken'> {
    return attempt(deps, input, async () => (await deps.carrier.close(input.order_id)).outcome);
  };
}
