import type { Address } from '@trellis/contracts/order';
import type { Parcel } from '@trellis/contracts/shipment';

/**
 * The company that carries parcels. Every call may be repeated: its key is the order id. Error messages are visible to API
 * callers, so they must hold nothing internal.
 */
export interface Carrier {
  /** Hands the parcel over. For a parcel that was taken before, returns what was recorded then. */
  dispatch(
    orderId: string,
    address: Address,
  ): Promise<Taken | { outcome: 'refused'; reason: string } | { outcome: 'closed' }>;
  /** Closes the key: after `closed` no parcel is taken for this order. `taken`: the carrier already has it. */
  close(orderId: string): Promise<Taken | { outcome: 'closed' }>;
  /** Has the carrier erase what it holds of the recipient, as far as it can. The order has ended. What the key answers stays the same. */
  forget(orderId: string): Promise<void>;
}

export interface Taken {
  outcome: 'taken';
  parcel: Parcel;
}
