import type { Money } from '@trellis/contracts/payment';

/**
 * The company that takes and returns money. Every call may be repeated: its key is the payment id. Whoever looks at the
 * order is shown the message of an error, so it tells nothing internal.
 */
export interface PaymentCompany {
  /** `conflict`: the key belongs to another order or amount. `closed`: it was refunded or closed, no charge will ever be taken on it. */
  charge(payment: PaymentKey & Money): Promise<'charged' | 'declined' | 'conflict' | 'closed'>;
  /** Gives the charge back; if there was none, closes the key so that one arriving late is refused. */
  refund(payment: PaymentKey): Promise<'refunded' | 'never_charged' | 'conflict'>;
}

export interface PaymentKey {
  payment_id: string;
  order_id: string;
}
