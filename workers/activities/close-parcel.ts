import type { Carrier } from '../providers/carrier.ts';
import { type Attempting, attempt, type Work } from './attempt.ts';

/** Asks the carrier to take no parcel of this order any more; `taken` when it has one already. */
export function createCloseParcel({ carrier, onFailedAttempt }: Attempting & { carrier: Carrier }) {
  return async function close_parcel(input: Work): Promise<'closed' | 'taken'> {
    return attempt({ onFailedAttempt }, input, async () => (await carrier.close(input.order_id)).outcome);
  };
}
