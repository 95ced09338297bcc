/** The tables of the simulated companies. A database of a product with real companies does not need them. */
import type { Address } from '@trellis/contracts/order';
import { index, mysqlTable } from 'drizzle-orm/mysql-core';
import { currency, json, money, recordedId, text, timestampNow } from '../columns.ts';

/** The payment company's book: a key is bound to its first order; a closed key refuses every later charge. */
export const sandboxCharges = mysqlTable(
  'sandbox_charges',
  {
    payment_id: recordedId('payment_id').primaryKey(),
    order_id: recordedId('order_id').notNull(),
    status: text('status', { length: 16 }).$type<'charged' | 'declined' | 'refunded' | 'closed'>().notNull(),
    amount: money('amount'),
    currency: currency(),
    created_at: timestampNow('created_at'),
    updated_at: timestampNow('updated_at'),
  },
  (table) => [index('sandbox_charges_by_order').on(table.order_id)],
);

/** The carrier's book: one parcel per order; a closed key takes no parcel. */
export const sandboxParcels = mysqlTable('sandbox_parcels', {
  order_id: recordedId('order_id').primaryKey(),
  status: text('status', { length: 16 }).$type<'taken' | 'closed'>().notNull(),
  /** Longer than the longest order id, which it contains. */
  tracking: text('tracking', { length: 128 }),
  address: json('address_json').$type<Address>(),
  created_at: timestampNow('created_at'),
  updated_at: timestampNow('updated_at'),
});
