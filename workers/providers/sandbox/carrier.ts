import type { Address } from '@trellis/contracts/order';
import type { ParcelBook, ParcelRow } from '@trellis/drizzle/sandbox/books';
import type { Carrier, Taken } from '../carrier.ts';

/** Simulates the carrier, with its own book. It refuses the city `Unreachable`. */
export function createSandboxCarrier(book: ParcelBook): Carrier {
  return {
    async dispatch(orderId, address) {
      if (address.city !== 'Unreachable') return answer(await book.take(orderId, address, `TRK-${orderId}`));
      const known = await book.find(orderId);
      return known ? answer(known) : { outcome: 'refused', reason: `${address.city} can't be reached` };
    },
    async close(orderId) {
      return answer(await book.close(orderId));
    },
    async forget(orderId) {
      await book.forget(orderId);
    },
  };
}

function answer(row: ParcelRow): Taken | { outcome: 'closed' } {
  if (row.status === 'closed') return { outcome: 'closed' };
  return { outcome: 'taken', parcel: { tracking: row.tracking ?? '', address: row.address as Address } };
}
