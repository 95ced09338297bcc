import type { Money } from '@trellis/contracts/payment';

/**
 * The company that charges and refunds payments. Every call may be repeated: its key is the payment id. Error messages are
 * visible to API callers, so they must hold nothing internal.
 */
export interface PaymentCompany {
  /** `conflict`: the key belongs to another order or amount. `closed`: it was refunded or closed, so it can never be charged. */
  charge(payment: PaymentKey & Money): Promise<'charged' | 'declined' | 'conflict' | 'closed'>;
  /** Refunds the charge. Without a charge it closes the key, so that a charge that arrives later is refused. */
  refund(payment: PaymentKey): Promise<'refunded' | 'never_charged' | 'conflict'>;
}

export interface PaymentKey {
  payment_id: string;
  order_id: string;
}
