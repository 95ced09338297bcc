import type { Approval } from '@trellis/contracts/actor';
import type { CheckApproval } from '@trellis/contracts/approval-proof';
import type { PaymentStore } from '@trellis/drizzle/payments';
import type { PaymentCompany } from '../providers/payment-company.ts';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export interface ChargeInput extends ActivityInput {
  payment_id: string;
  /** Absent from a workflow of a version up to 0.5. */
  approval?: Approval;
}

/** `closed`: the order has ended meanwhile, or the payment's key is closed. `unapproved`: the API did not sign its approval. */
export type Charged = 'charged' | 'declined' | 'conflict' | 'closed' | 'unapproved';

/** Charges the order's amount once, however many attempts that takes. */
export function createChargePayment(
  deps: AttemptDeps & {
    payments: PaymentStore;
    paymentCompany: PaymentCompany;
    /** Absent where approvals are not signed. */
    checkApproval?: CheckApproval | undefined;
  },
) {
  const { payments, paymentCompany, checkApproval } = deps;
  return async function charge_payment(input: ChargeInput): Promise<Charged> {
    const { order_id, payment_id, approval } = input;
    return attempt(deps, input, async () => {
      const approver = await checkApproval?.(order_id, approval?.proof);
      if (checkApproval && !approver) return 'unapproved';
      const begun = await payments.beginCharge(
        order_id,
        payment_id,
        approval && { ...approval, ...(approver && { by: approver }) },
      );
      if (begun.outcome !== 'charge') return begun.outcome;
      const answer = await paymentCompany.charge({ payment_id, order_id, ...begun.money });
      if (answer === 'charged') await payments.charged(order_id, payment_id);
      // After a conflict the payment stays pending: recorded as failed, the next attempt would return it as declined.
      if (answer === 'declined') await payments.declined(order_id, payment_id);
      return answer;
    });
  };
}
