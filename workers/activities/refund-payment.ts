import type { ClosedState, Ending } from '@trellis/contracts/lifecycle';
import type { OrderStore, Progress } from '@trellis/drizzle/orders';
import type { PaymentStore } from '@trellis/drizzle/payments';
import type { ShipmentStore } from '@trellis/drizzle/shipments';
import type { Carrier } from '../providers/carrier.ts';
import type { PaymentCompany } from '../providers/payment-company.ts';
import { type Attempting, attempt, type Work } from './attempt.ts';

export interface RefundInput extends Work {
  payment_id: string;
  ending: Ending;
  progress: Progress;
}

/** `taken`: the parcel has left, so there is nothing to refund and the order is to be marked shipped. */
export type Refunded = { outcome: 'closed'; state: ClosedState } | { outcome: 'taken' };

/**
 * Gives the money back, then records the refund and the order's end in one transaction. The carrier's key and the
 * payment's key are closed first, so a try to ship or to charge that wakes up later is refused.
 */
export function createRefundPayment(
  deps: Attempting & {
    orders: OrderStore;
    payments: PaymentStore;
    shipments: ShipmentStore;
    paymentCompany: PaymentCompany;
    carrier: Carrier;
  },
) {
  const { orders, payments, shipments, paymentCompany, carrier } = deps;
  return async function refund_payment(input: RefundInput): Promise<Refunded> {
    const { order_id, payment_id, ending, progress } = input;
    return attempt(deps, input, async () => {
      if (progress.child_attempts > 0) {
        const carried = await carrier.close(order_id);
        if (carried.outcome === 'taken') {
          await shipments.dispatched(order_id, progress.child_attempts, carried.parcel);
          return { outcome: 'taken' };
        }
      }
      // Another order's payment is none of this one's business.
      if (!(await payments.claimForRefund(order_id, payment_id)))
        return { outcome: 'closed', state: await orders.close(order_id, ending, progress) };
      const returned = (await paymentCompany.refund({ payment_id, order_id })) === 'refunded';
      const state = await payments.settle(order_id, payment_id, returned, ending, progress);
      return { outcome: 'closed', state };
    });
  };
}
