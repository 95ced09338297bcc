/** Money: exact decimals as strings, never floats. */
import * as v from 'valibot';
import { Timestamp } from './timestamp.ts';

export const PAYMENT_STATUSES = ['pending', 'charged', 'failed', 'refunded'] as const;
export type PaymentStatus = (typeof PAYMENT_STATUSES)[number];

/** An exact amount, two decimals, and its ISO 4217 currency. */
export interface Money {
  amount: string;
  currency: string;
}

/** The most that an amount can be: columns have as many digits. */
export const MAX_AMOUNT = '999999999999.99';

/** An exact decimal with two places. */
export const Amount = v.pipe(v.string(), v.regex(/^\d+\.\d\d$/), v.examples(['2.00']));
/** ISO 4217. */
export const Currency = v.pipe(v.string(), v.regex(/^[A-Z]{3}$/), v.examples(['USD']));

export const Payment = v.object({
  payment_id: v.string(),
  status: v.picklist(PAYMENT_STATUSES),
  amount: Amount,
  currency: Currency,
  created_at: Timestamp,
  updated_at: Timestamp,
});
export type Payment = v.InferOutput<typeof Payment>;
