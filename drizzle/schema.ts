/** The tables. The first four are the original's, with our columns added; `sandbox_*` are the books of the simulated companies. */
import type { EventType, FailureReason, State, Step } from '@trellis/contracts/lifecycle';
import type { PaymentStatus } from '@trellis/contracts/payment';
import type { ShipmentStatus } from '@trellis/contracts/shipment';
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  customType,
  decimal,
  double,
  index,
  int,
  mysqlTable,
  text,
  timestamp,
  tinyint,
  uniqueIndex,
  varchar,
} from 'drizzle-orm/mysql-core';

/** Ids compare byte by byte: `o-1` and `O-1` are two orders. */
const id = customType<{ data: string; config: { length: number } }>({
  dataType: (config) => `varchar(${config?.length ?? 64}) CHARACTER SET ascii COLLATE ascii_bin`,
});

/** MySQL's driver hands JSON over parsed, MariaDB's as text. */
const json = customType<{ data: unknown; driverData: unknown }>({
  dataType: () => 'json',
  // Half a surrogate pair is JSON to JavaScript, but not to SQL.
  toDriver: (value) => JSON.stringify(value, (_, part) => (typeof part === 'string' ? part.toWellFormed() : part)),
  fromDriver: (value) => (typeof value === 'string' ? JSON.parse(value) : value),
});

const money = (name: string) => decimal(name, { precision: 14, scale: 2 });
const currency = () => varchar('currency', { length: 3 });
/** The database's clock. */
export const now = sql`CURRENT_TIMESTAMP(3)`;
const at = (name: string) => timestamp(name, { fsp: 3 }).notNull().default(now);

export const orders = mysqlTable(
  'orders',
  {
    id: id('id').primaryKey(),
    state: varchar('state', { length: 32 }).$type<State>().notNull(),
    addressJson: json('address_json'),
    createdAt: at('created_at'),
    updatedAt: at('updated_at'),
    paymentId: id('payment_id'),
    itemsJson: json('items_json'),
    amount: money('amount'),
    currency: currency(),
    policy: varchar('policy', { length: 32 }),
    requestHash: id('request_hash'),
    workflowId: varchar('workflow_id', { length: 255 }).notNull(),
    runId: id('run_id').notNull(),
    step: varchar('step', { length: 32 }).$type<Step>().notNull(),
    approved: boolean('approved').notNull().default(false),
    reason: varchar('reason', { length: 32 }).$type<FailureReason>(),
    cancelReason: varchar('cancel_reason', { length: 255 }),
    childAttempts: int('child_attempts').notNull().default(0),
    lastError: text('last_error'),
    dispatchFailedReason: text('dispatch_failed_reason'),
  },
  (table) => [
    index('orders_by_age').on(table.createdAt, table.id),
    index('orders_by_state').on(table.state, table.createdAt, table.id),
    index('orders_by_update').on(table.updatedAt),
  ],
);

export const payments = mysqlTable(
  'payments',
  {
    paymentId: id('payment_id').primaryKey(),
    orderId: id('order_id').notNull(),
    status: varchar('status', { length: 16 }).$type<PaymentStatus>().notNull(),
    amount: money('amount').notNull(),
    currency: currency().notNull(),
    createdAt: at('created_at'),
    updatedAt: at('updated_at'),
  },
  (table) => [index('payments_by_order').on(table.orderId)],
);

export const shipments = mysqlTable(
  'shipments',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().autoincrement(),
    orderId: id('order_id').notNull(),
    status: varchar('status', { length: 16 }).$type<ShipmentStatus>().notNull(),
    payloadJson: json('payload_json'),
    ts: at('ts'),
    attempt: int('attempt').notNull(),
  },
  (table) => [uniqueIndex('shipments_by_try').on(table.orderId, table.attempt)],
);

export const events = mysqlTable(
  'events',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().autoincrement(),
    orderId: id('order_id').notNull(),
    type: varchar('type', { length: 32 }).$type<EventType>().notNull(),
    payloadJson: json('payload_json'),
    ts: at('ts'),
    dedupeKey: id('dedupe_key', { length: 160 }).notNull(),
  },
  (table) => [uniqueIndex('events_once').on(table.orderId, table.dedupeKey)],
);

/** Failed attempts at activities; an order that meets no fault has none. */
export const attempts = mysqlTable(
  'attempts',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().autoincrement(),
    orderId: id('order_id').notNull(),
    step: varchar('step', { length: 32 }).notNull(),
    attempt: int('attempt').notNull(),
    error: varchar('error', { length: 500 }).notNull(),
    ts: at('ts'),
  },
  (table) => [index('attempts_by_order').on(table.orderId, table.id)],
);

/** One row: what the workers can do, as they measured it, and what was promised of it. */
export const capacity = mysqlTable('capacity', {
  id: tinyint('id').primaryKey(),
  ordersPerSecond: double('orders_per_second').notNull(),
  /** When the workers will be through with every order that was admitted. */
  busyUntil: timestamp('busy_until', { fsp: 6 }).notNull().default(sql`CURRENT_TIMESTAMP(6)`),
});

/** The payment company's book: a key is bound to its first order; a closed key refuses a charge that arrives late. */
export const sandboxCharges = mysqlTable(
  'sandbox_charges',
  {
    paymentId: id('payment_id').primaryKey(),
    orderId: id('order_id').notNull(),
    status: varchar('status', { length: 16 }).$type<'charged' | 'declined' | 'refunded' | 'closed'>().notNull(),
    amount: money('amount'),
    currency: currency(),
    createdAt: at('created_at'),
    updatedAt: at('updated_at'),
  },
  (table) => [index('sandbox_charges_by_order').on(table.orderId)],
);

/** The carrier's book: one parcel an order; a closed key takes no parcel. */
export const sandboxParcels = mysqlTable('sandbox_parcels', {
  orderId: id('order_id').primaryKey(),
  status: varchar('status', { length: 16 }).$type<'taken' | 'closed'>().notNull(),
  tracking: varchar('tracking', { length: 64 }),
  addressJson: json('address_json'),
  createdAt: at('created_at'),
  updatedAt: at('updated_at'),
});
