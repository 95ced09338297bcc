import type { Carrier } from '../providers/carrier.ts';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

/** Asks the carrier to take no parcel of this order any more; `taken` when it has one already. */
export function createCloseParcel({ carrier, onFailedAttempt }: AttemptDeps & { carrier: Carrier }) {
  return async function close_parcel(input: ActivityInput): Promise<'closed' | 'taken'> {
    return attempt({ onFailedAttempt }, input, async () => (await carrier.close(input.order_id)).outcome);
  };
}
