/** An order as it is posted, as it travels through Temporal, and as it is read back. */
import * as v from 'valibot';
import type { Problem } from './error.ts';
import { Event } from './event.ts';
import { ID_PATTERN } from './id.ts';
import { STATES } from './lifecycle.ts';
import { Amount, Currency, Payment } from './payment.ts';
import { POLICY_NAMES } from './policy.ts';
import { Shipment } from './shipment.ts';
import { text } from './text.ts';
import { Timestamp } from './timestamp.ts';

const Id = v.pipe(v.string(), v.regex(ID_PATTERN, 'must be 1 to 64 of A-Z a-z 0-9 . _ : -'));
export const OrderId = v.pipe(Id, v.examples(['o-1001']));
export const PaymentId = v.pipe(Id, v.examples(['pay-o-1001']));

const Line = text(0, 200);
const NeededLine = text(1, 200);
export const Address = v.pipe(
  v.objectWithRest({ line1: NeededLine, city: NeededLine }, Line),
  v.maxEntries(20, 'must have at most 20 fields'),
  v.check((address) => Object.keys(address).every((key) => v.is(Line, key)), 'has a field name that is too long'),
  v.metadata({ propertyNames: { maxLength: 200 } }),
  v.examples([{ line1: '123 Main', city: 'Chicago' }]),
);
export type Address = v.InferOutput<typeof Address>;

export const Item = v.object({
  sku: v.pipe(text(1, 64), v.examples(['ABC'])),
  qty: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(10_000), v.examples([2])),
});
export type Item = v.InferOutput<typeof Item>;

/** The one argument of OrderWorkflow. */
export const OrderInput = v.object({
  order_id: OrderId,
  payment_id: PaymentId,
  address: Address,
  items: v.pipe(v.array(Item), v.minLength(1), v.maxLength(100)),
  policy: v.optional(v.picklist(POLICY_NAMES)),
});
export type OrderInput = v.InferOutput<typeof OrderInput>;

export const StartInput = v.omit(OrderInput, ['policy']);
export type StartInput = v.InferOutput<typeof StartInput>;

export const StartOutput = v.object({
  workflow_id: v.pipe(v.string(), v.examples(['order-o-1001'])),
  run_id: v.pipe(v.string(), v.examples(['01a2066e-bf20-7b61-bee9-005137fcd754'])),
});
export type StartOutput = v.InferOutput<typeof StartOutput>;

export const OrderSummary = v.object({
  order_id: OrderId,
  state: v.picklist(STATES),
  payment_id: v.nullable(v.string()),
  amount: v.nullable(Amount),
  currency: v.nullable(Currency),
  reason: v.nullable(v.string()),
  created_at: Timestamp,
  updated_at: Timestamp,
});
export type OrderSummary = v.InferOutput<typeof OrderSummary>;

export const OrderView = v.object({
  ...OrderSummary.entries,
  address: v.unknown(),
  items: v.unknown(),
  payments: v.array(Payment),
  shipments: v.array(Shipment),
  events: v.array(Event),
});
export type OrderView = v.InferOutput<typeof OrderView>;

/** Query strings carry text, so `limit` may arrive as digits. */
export const ListInput = v.object({
  state: v.optional(v.picklist(STATES)),
  limit: v.optional(
    v.pipe(
      v.union([v.number(), v.pipe(v.string(), v.regex(/^\d{1,4}$/, 'must be a number'), v.transform(Number))]),
      v.integer(),
      v.minValue(1),
      v.maxValue(200),
      // To readers of the schema it is a number, however it travels.
      v.metadata({ anyOf: undefined }),
    ),
    50,
  ),
  cursor: v.optional(text(0, 200)),
});
export type ListInput = v.InferOutput<typeof ListInput>;

export const ListOutput = v.object({ orders: v.array(OrderSummary), next_cursor: v.nullable(v.string()) });
export type ListOutput = v.InferOutput<typeof ListOutput>;

/** More than anybody reads, and far from what a history or an answer can hold. */
const MAX_PROBLEMS = 20;
const MAX_PROBLEM_LENGTH = 200;

/** The first problems of a failed parse, paths dotted: `items.0.qty`. */
export function problemsOf(issues: readonly v.BaseIssue<unknown>[]): Problem[] {
  return issues.slice(0, MAX_PROBLEMS).map((issue) => ({
    path: (v.getDotPath(issue) ?? '').slice(0, MAX_PROBLEM_LENGTH),
    message: issue.message.slice(0, MAX_PROBLEM_LENGTH),
  }));
}
