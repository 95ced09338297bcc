import { withoutShop } from '@trellis/contracts/id';
import type { PaymentBook } from '@trellis/drizzle/sandbox/books';
import type { PaymentCompany } from '../payment-company.ts';

/** Simulates the payment company, with its own book. A payment id that starts with `declined-` is declined. */
export function createSandboxPaymentCompany(book: PaymentBook): PaymentCompany {
  return {
    async charge({ payment_id, order_id, ...money }) {
      const outcome = withoutShop(payment_id).startsWith('declined-') ? 'declined' : 'charged';
      const row = await book.charge(payment_id, order_id, money, outcome);
      if (row.order_id !== order_id) return 'conflict';
      if (row.status === 'refunded' || row.status === 'closed') return 'closed';
      return row.amount === money.amount && row.currency === money.currency ? row.status : 'conflict';
    },
    async refund({ payment_id, order_id }) {
      const row = await book.refund(payment_id, order_id);
      if (row.order_id !== order_id) return 'conflict';
      return row.status === 'refunded' ? 'refunded' : 'never_charged';
    },
  };
}
