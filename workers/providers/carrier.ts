import type { Address } from '@trellis/contracts/order';
import type { Parcel } from '@trellis/contracts/shipment';

/**
 * The company that carries parcels. Every call may be repeated: its key is the order. Whoever looks at the order is shown
 * the message of an error, so it tells nothing internal.
 */
export interface Carrier {
  /** Hands the parcel over. One that was taken before is answered as it was taken. */
  dispatch(
    orderId: string,
    address: Address,
  ): Promise<Taken | { outcome: 'refused'; reason: string } | { outcome: 'closed' }>;
  /** From `closed` on no parcel is taken for this order; `taken` means it is too late. */
  close(orderId: string): Promise<Taken | { outcome: 'closed' }>;
}

export interface Taken {
  outcome: 'taken';
  parcel: Parcel;
}
