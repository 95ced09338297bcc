import type { PaymentStore } from '@trellis/drizzle/payments';
import type { PaymentCompany } from '../providers/payment-company.ts';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

/** `closed`: the order ended meanwhile, or its key at the company did. */
export type Charged = 'charged' | 'declined' | 'conflict' | 'closed';

/** Takes the order's amount from the card once, however often it is tried. */
export function createChargePayment(deps: AttemptDeps & { payments: PaymentStore; paymentCompany: PaymentCompany }) {
  const { payments, paymentCompany } = deps;
  return async function charge_payment(input: ActivityInput & { payment_id: string }): Promise<Charged> {
    const { order_id, payment_id } = input;
    return attempt(deps, input, async () => {
      const begun = await payments.beginCharge(order_id, payment_id);
      if (begun.outcome !== 'charge') return begun.outcome;
      const answer = await paymentCompany.charge({ payment_id, order_id, ...begun.money });
      if (answer === 'charged') await payments.charged(order_id, payment_id);
      // A conflict leaves the payment open, or it would be told as declined the next time it is asked for.
      if (answer === 'declined') await payments.declined(order_id, payment_id);
      return answer;
    });
  };
}
