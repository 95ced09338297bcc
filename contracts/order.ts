/** An order: the request that starts it, the workflow's argument, and the views that the API returns. */
import * as v from 'valibot';
import type { Actor } from './actor.ts';
import type { Problem } from './error.ts';
import { Event } from './event.ts';
import { ID_PATTERN, RECORDED_ID_PATTERN } from './id.ts';
import { State } from './order-status.ts';
import { Amount, Currency, Payment } from './payment.ts';
import { POLICY_NAMES } from './policy.ts';
import { RecordedAddress, Shipment } from './shipment.ts';
import { FAILURE_REASONS } from './states-and-steps.ts';
import { text } from './text.ts';
import { Timestamp } from './timestamp.ts';

export const ID_RULE = 'must be 1 to 64 of A-Z a-z 0-9 . _ : - and neither . nor ..';
const Id = v.pipe(v.string(), v.regex(ID_PATTERN, ID_RULE));
const RecordedId = v.pipe(v.string(), v.regex(RECORDED_ID_PATTERN, ID_RULE));
export const OrderId = v.pipe(Id, v.examples(['o-1001']));
/** The id of an order that has been started. */
export const OrderRef = v.pipe(
  RecordedId,
  v.description(
    'The id that it was started with. A caller of every shop puts the shop before it, as in `acme~o-1001`.',
  ),
  v.examples(['o-1001']),
);
export const PaymentId = v.pipe(
  Id,
  v.description(
    'A payment belongs to one order: an order with the payment id of another one ends `failed` with PAYMENT_CONFLICT.',
  ),
  v.examples(['pay-o-1001']),
);

const Line = text(0, 200);
const RequiredLine = text(1, 200);
const MAX_ADDRESS_BYTES = 2_048;
const AddressFields = v.objectWithRest({ line1: RequiredLine, city: RequiredLine }, Line);
export const Address = v.pipe(
  keepingEveryKey(AddressFields),
  v.maxEntries(20, 'must have at most 20 fields'),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed || dataset.issues) return;
    if (
      !Object.entries(dataset.value)
        .flat()
        .every((part) => v.is(Line, part))
    )
      addIssue({ message: 'has a field whose name or value is not a text of at most 200 characters' });
  }),
  v.check(
    (address) => new TextEncoder().encode(JSON.stringify(address)).length <= MAX_ADDRESS_BYTES,
    `must have at most ${MAX_ADDRESS_BYTES} bytes, as JSON without white space in UTF-8`,
  ),
  v.description(`At most 20 fields, and at most ${MAX_ADDRESS_BYTES} bytes as JSON without white space in UTF-8.`),
  v.metadata({ propertyNames: { maxLength: 200 } }),
  v.examples([{ line1: '123 Main', city: 'Chicago' }]),
);
export type Address = v.InferOutput<typeof Address>;

/**
 * The schema with an output that has every key of its input. valibot silently drops `__proto__`, `prototype` and `constructor`, so a
 * request would be accepted without them. The values of these keys are not validated here: the caller adds that check.
 */
function keepingEveryKey<S extends v.GenericSchema>(schema: S): S {
  return {
    ...schema,
    '~run'(dataset: v.UnknownDataset, config: v.Config<v.BaseIssue<unknown>>) {
      const given = dataset.value;
      const parsed = schema['~run'](dataset, config);
      return parsed.typed && !parsed.issues ? { ...parsed, value: { ...(given as object) } } : parsed;
    },
  };
}

export const Item = v.object({
  sku: v.pipe(text(1, 64), v.examples(['ABC'])),
  qty: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(10_000), v.examples([2])),
});
export type Item = v.InferOutput<typeof Item>;

/** The request that starts an order; `requestHash` covers every field of it. */
export const StartInput = v.object({
  order_id: OrderId,
  payment_id: PaymentId,
  address: Address,
  items: v.pipe(v.array(Item), v.minLength(1), v.maxLength(100)),
});
export type StartInput = v.InferOutput<typeof StartInput>;

/** The one argument of OrderWorkflow: the request, its ids as they are recorded, and what the server adds. */
export const OrderInput = v.object({
  ...StartInput.entries,
  order_id: RecordedId,
  payment_id: RecordedId,
  policy: v.optional(v.picklist(POLICY_NAMES)),
  /** Not validated: an order is not refused for it. */
  started_by: v.optional(v.custom<Actor>(() => true)),
});
export type OrderInput = v.InferOutput<typeof OrderInput>;

export const StartOutput = v.object({
  workflow_id: v.pipe(v.string(), v.examples(['order-o-1001'])),
  run_id: v.pipe(v.string(), v.examples(['01a2066e-bf20-7b61-bee9-005137fcd754'])),
});
export type StartOutput = v.InferOutput<typeof StartOutput>;

export const OrderSummary = v.object({
  order_id: OrderRef,
  state: State,
  payment_id: v.nullable(v.string()),
  amount: v.nullable(Amount),
  currency: v.nullable(Currency),
  reason: v.pipe(
    v.nullable(v.string()),
    v.description(
      `Why it ended \`failed\`: ${FAILURE_REASONS.join(', ')}; or the cancel reason when it ended \`canceled\`.`,
    ),
  ),
  created_at: Timestamp,
  updated_at: Timestamp,
});
export type OrderSummary = v.InferOutput<typeof OrderSummary>;

/** An item read from SQL, not validated again, as `RecordedAddress`. */
export const RecordedItem = v.custom<Item>(() => true);

/** `address` and `items` are null when the order was started with invalid ones, `address` also once the order was erased. */
export const OrderView = v.object({
  ...OrderSummary.entries,
  erased_at: v.pipe(v.nullable(Timestamp), v.description('When its personal data was erased.')),
  address: v.nullable(RecordedAddress),
  items: v.nullable(v.array(RecordedItem)),
  payments: v.array(Payment),
  shipments: v.pipe(v.array(Shipment), v.description('The newest 100 shipping attempts, oldest first.')),
  events: v.pipe(v.array(Event), v.description('At most 100 events, oldest first, from `events_after` on.')),
  events_next_cursor: v.pipe(
    v.nullable(v.string()),
    v.description('The `events_after` of the next page; null when these are the last events.'),
  ),
});
export type OrderView = v.InferOutput<typeof OrderView>;

export const GetInput = v.object({
  order_id: OrderRef,
  events_after: v.optional(
    v.pipe(
      v.string(),
      // The id of an event, below 2 ** 53.
      v.regex(/^[1-9]\d{0,14}$/, 'must be the events_next_cursor of an answer'),
      v.description('Continues the events after this `events_next_cursor`.'),
      v.metadata({ pattern: undefined }),
    ),
  ),
});
export type GetInput = v.InferOutput<typeof GetInput>;

/** `limit` may be a string of digits, because query strings have no numbers. */
export const ListInput = v.object({
  state: v.optional(State),
  limit: v.optional(
    v.pipe(
      v.union([v.number(), v.pipe(v.string(), v.regex(/^\d{1,4}$/, 'must be a number'), v.transform(Number))]),
      v.integer(),
      v.minValue(1),
      v.maxValue(200),
      // OpenAPI shows a number; the string form exists for query strings.
      v.metadata({ anyOf: undefined }),
    ),
    50,
  ),
  cursor: v.optional(text(0, 200)),
});
export type ListInput = v.InferOutput<typeof ListInput>;

export const ListOutput = v.object({ orders: v.array(OrderSummary), next_cursor: v.nullable(v.string()) });
export type ListOutput = v.InferOutput<typeof ListOutput>;

/** Limits that keep error lists small enough for Temporal payloads. */
export const MAX_PROBLEMS = 20;
const MAX_PROBLEM_LENGTH = 200;

/** The first problems of a failed parse, paths dotted: `items.0.qty`. */
export function problemsOf(issues: readonly v.BaseIssue<unknown>[]): Problem[] {
  return issues.slice(0, MAX_PROBLEMS).map((issue) => ({
    path: (v.getDotPath(issue) ?? '').slice(0, MAX_PROBLEM_LENGTH),
    message: withoutValue(issue).slice(0, MAX_PROBLEM_LENGTH),
  }));
}

/** valibot's own messages end with the text or number that was received. It may be personal, and problems are answered and recorded. */
const withoutValue = ({ message, received }: v.BaseIssue<unknown>): string =>
  /^["\d-]/.test(received) && message.endsWith(received)
    ? `${message.slice(0, -received.length)}another value`
    : message;
