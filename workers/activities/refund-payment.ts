import type { Decisions } from '@trellis/contracts/actor';
import type { Progress } from '@trellis/contracts/order-status';
import type { Ending, TerminalState } from '@trellis/contracts/states-and-steps';
import type { OrderStore } from '@trellis/drizzle/orders';
import type { PaymentStore } from '@trellis/drizzle/payments';
import type { ShipmentStore } from '@trellis/drizzle/shipments';
import type { Carrier } from '../providers/carrier.ts';
import type { PaymentCompany } from '../providers/payment-company.ts';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export interface RefundInput extends ActivityInput {
  payment_id: string;
  ending: Ending;
  progress: Progress;
  /** As in CloseOrderInput. */
  decisions?: Decisions;
}

/** `closed`: the order has ended in `state`. `taken`: the carrier has the parcel, so nothing was refunded and the order ships. */
export type Refunded = { outcome: 'closed'; state: TerminalState } | { outcome: 'taken' };

/**
 * Refunds the payment, then records the refund and the order's end in one transaction. The carrier's key and the
 * payment's key are closed first, so that a dispatch or a charge still under way elsewhere is refused when it arrives.
 */
export function createRefundPayment(
  deps: AttemptDeps & {
    orders: OrderStore;
    payments: PaymentStore;
    shipments: ShipmentStore;
    paymentCompany: PaymentCompany;
    carrier: Carrier;
  },
) {
  const { orders, payments, shipments, paymentCompany, carrier } = deps;
  return async function refund_payment(input: RefundInput): Promise<Refunded> {
    const { order_id, payment_id, ending, progress, decisions = {} } = input;
    return attempt(deps, input, async () => {
      // Close the carrier's key even if this run never shipped: another run of the order may have.
      const carried = await carrier.close(order_id);
      if (carried.outcome === 'taken') {
        await shipments.dispatched(order_id, Math.max(1, progress.child_attempts), carried.parcel);
        return { outcome: 'taken' };
      }
      const claim = await payments.claimForRefund(order_id, payment_id);
      if (claim.outcome === 'closed') return claim;
      if (claim.outcome === 'foreign') {
        const state = await orders.end(order_id, ending, progress, decisions);
        if (state === 'owed')
          throw new Error(`order ${order_id} holds money under another payment id than ${payment_id}`);
        return { outcome: 'closed', state };
      }
      const returned = (await paymentCompany.refund({ payment_id, order_id })) === 'refunded';
      const state = await payments.settle(order_id, payment_id, returned, ending, progress, decisions);
      return { outcome: 'closed', state };
    });
  };
}
