/**
 * The product's tables. A row has the contracts' keys; a column has another name only where SQL readers of the original
 * service depend on that name. A column named like a field of an order's input is written, and one named like a field of a
 * view is read, without another edit.
 */
import type { Actor } from '@trellis/contracts/actor';
import type { Event, EventType } from '@trellis/contracts/event';
import type { Address, Item } from '@trellis/contracts/order';
import type { PaymentStatus } from '@trellis/contracts/payment';
import type { Shipment, ShipmentStatus } from '@trellis/contracts/shipment';
import type { FailureReason, State, Step } from '@trellis/contracts/states-and-steps';
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  double,
  index,
  int,
  mysqlTable,
  primaryKey,
  tinyint,
  uniqueIndex,
} from 'drizzle-orm/mysql-core';
import { currency, exactText, id, json, message, money, recordedId, text, timestamp, timestampNow } from './columns.ts';

export const orders = mysqlTable(
  'orders',
  {
    order_id: recordedId('id').primaryKey(),
    /** Empty where there are no shops. */
    shop: id('shop', { length: 32 }).notNull().default(''),
    state: text('state', { length: 32 }).$type<State>().notNull(),
    address: json('address_json').$type<Address>(),
    created_at: timestampNow('created_at'),
    updated_at: timestampNow('updated_at'),
    payment_id: recordedId('payment_id'),
    items: json('items_json').$type<Item[]>(),
    amount: money('amount'),
    currency: currency(),
    policy: text('policy', { length: 32 }),
    request_hash: id('request_hash'),
    /** Any caller of Temporal may choose it; Temporal's own limit is 1,000 bytes. */
    workflow_id: text('workflow_id', { length: 1000 }).notNull(),
    run_id: id('run_id').notNull(),
    step: text('step', { length: 32 }).$type<Step>().notNull(),
    approved: boolean('approved').notNull().default(false),
    reason: text('reason', { length: 32 }).$type<FailureReason>(),
    cancel_reason: text('cancel_reason', { length: 255 }),
    child_attempts: int('child_attempts').notNull().default(0),
    last_error: message('last_error'),
    dispatch_failed_reason: message('dispatch_failed_reason'),
    /** The hash of its newest event; null while no event has one. */
    last_event_hash: id('last_event_hash'),
    /** When the personal data of the order was erased. */
    erased_at: timestamp('erased_at'),
  },
  (table) => [
    index('orders_by_age').on(table.created_at, table.order_id),
    index('orders_of_shop').on(table.shop, table.created_at, table.order_id),
    index('orders_of_shop_by_state').on(table.shop, table.state, table.created_at, table.order_id),
    index('orders_by_state').on(table.state, table.created_at, table.order_id),
    index('orders_by_update').on(table.updated_at),
  ],
);

export const payments = mysqlTable(
  'payments',
  {
    payment_id: recordedId('payment_id').primaryKey(),
    order_id: recordedId('order_id').notNull(),
    status: text('status', { length: 16 }).$type<PaymentStatus>().notNull(),
    amount: money('amount').notNull(),
    currency: currency().notNull(),
    created_at: timestampNow('created_at'),
    updated_at: timestampNow('updated_at'),
  },
  (table) => [index('payments_by_order').on(table.order_id)],
);

/** One row for each shipping attempt. */
export const shipments = mysqlTable(
  'shipments',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().autoincrement(),
    order_id: recordedId('order_id').notNull(),
    status: text('status', { length: 16 }).$type<ShipmentStatus>().notNull(),
    payload: json('payload_json').$type<NonNullable<Shipment['payload']>>(),
    ts: timestampNow('ts'),
    attempt: int('attempt').notNull(),
  },
  (table) => [uniqueIndex('shipments_by_try').on(table.order_id, table.attempt)],
);

export const events = mysqlTable(
  'events',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().autoincrement(),
    order_id: recordedId('order_id').notNull(),
    type: text('type', { length: 32 }).$type<EventType>().notNull(),
    payload: json('payload_json').$type<NonNullable<Event['payload']>>(),
    ts: timestampNow('ts'),
    actor: json('actor_json').$type<Actor>(),
    dedupe_key: id('dedupe_key', { length: 160 }).notNull(),
    /** Over the event and the hash before it (event-chain.ts); null in events of versions up to 0.5. */
    hash: id('hash'),
    /** Of the payload's text that may be erased; null without such a text, and after its erasure. */
    salt: id('salt', { length: 32 }),
  },
  (table) => [uniqueIndex('events_once').on(table.order_id, table.dedupe_key)],
);

/** The price lists. A price holds from `valid_from` until the next one of its shop and sku. */
export const prices = mysqlTable(
  'prices',
  {
    /** Empty where there are no shops. */
    shop: id('shop', { length: 32 }).notNull().default(''),
    sku: exactText('sku', { length: 64 }).notNull(),
    valid_from: timestampNow('valid_from'),
    amount: money('amount').notNull(),
    currency: currency().notNull(),
  },
  (table) => [primaryKey({ columns: [table.shop, table.sku, table.valid_from] })],
);

/** The key of each order whose payloads are encrypted (payload-codec.ts), itself encrypted. Without its row nobody can read them. */
export const orderKeys = mysqlTable('order_keys', {
  order_id: recordedId('order_id').primaryKey(),
  /** The id of the configuration's key that it is encrypted with. */
  kek: id('kek', { length: 32 }).notNull(),
  wrapped: id('wrapped', { length: 96 }).notNull(),
  created_at: timestampNow('created_at'),
});

/** Failed attempts at activities; an order without failures has no rows. `step` holds the activity's name. */
export const attempts = mysqlTable(
  'attempts',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().autoincrement(),
    order_id: recordedId('order_id').notNull(),
    step: text('step', { length: 32 }).notNull(),
    attempt: int('attempt').notNull(),
    error: message('error', 500).notNull(),
    ts: timestampNow('ts'),
  },
  (table) => [index('attempts_by_order').on(table.order_id, table.id)],
);

const microsecondsNow = (name: string) => timestamp(name, { fsp: 6 }).notNull().default(sql`CURRENT_TIMESTAMP(6)`);

/** One row: the rate at which orders are admitted, the end of the virtual queue, and the workers' count of open orders. */
export const capacity = mysqlTable('capacity', {
  id: tinyint('id').primaryKey(),
  orders_per_second: double('orders_per_second').notNull(),
  /** When the workers will have finished every order admitted so far. */
  busy_until: microsecondsNow('busy_until'),
  /** The orders that workers still had to work on at `counted_at`. */
  open_orders: int('open_orders').notNull().default(0),
  counted_at: microsecondsNow('counted_at'),
  /** Before this no worker counts again. */
  next_count_at: microsecondsNow('next_count_at'),
});

/** One row for each shop: when the workers would have finished its admitted orders if they served it with its share alone. */
export const shopCapacity = mysqlTable('shop_capacity', {
  shop: id('shop', { length: 32 }).primaryKey(),
  busy_until: microsecondsNow('busy_until'),
});
