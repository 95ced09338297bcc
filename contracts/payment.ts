/** Money: exact decimals as strings, never floats. */
import * as v from 'valibot';

export const PAYMENT_STATUSES = ['pending', 'charged', 'failed', 'refunded'] as const;
export type PaymentStatus = (typeof PAYMENT_STATUSES)[number];

/** An exact amount, two decimals, and its ISO 4217 currency. */
export interface Money {
  amount: string;
  currency: string;
}

export const Payment = v.object({
  payment_id: v.string(),
  status: v.picklist(PAYMENT_STATUSES),
  amount: v.string(),
  currency: v.string(),
  created_at: v.string(),
  updated_at: v.string(),
});
export type Payment = v.InferOutput<typeof Payment>;
