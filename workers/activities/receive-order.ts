import { OrderInput, StartInput } from '@trellis/contracts/order';
import { type Policy, policyOf } from '@trellis/contracts/policy';
import { type Hash, requestHash } from '@trellis/contracts/request-hash';
import type { State } from '@trellis/contracts/states-and-steps';
import type { Run } from '@trellis/contracts/temporal';
import type { OrderStore } from '@trellis/drizzle/orders';
import * as v from 'valibot';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export interface ReceiveOrderInput extends ActivityInput {
  run: Run;
  /** As the caller sent it, not validated: `validate_order` does that. */
  order: unknown;
}

export interface Received {
  /** Whether the calling run owns the order. */
  owner: boolean;
  state: State;
  /** The policy's numbers, which hold for this order to its end. Absent in the results of 0.1.0 and 0.2.0. */
  policy?: Policy;
}

export interface ReceiveDeps {
  orders: OrderStore;
  /** What requests are hashed with; by default SHA-256. */
  hash?: Hash | undefined;
}

/** Writes the order's row, bound to the first run that calls this, and resolves the order's policy to its numbers. */
export function createReceiveOrder(deps: AttemptDeps & ReceiveDeps) {
  return async function receive_order(input: ReceiveOrderInput): Promise<Received> {
    const name = (input.order as Partial<OrderInput> | null | undefined)?.policy;
    return attempt(deps, input, async () => ({ ...(await receive(deps, input)), policy: policyOf(name) }));
  };
}

/** Also called by `close_order`, so that an order whose `receive_order` never succeeded has a row to write its end to. */
export async function receive({ orders, hash }: ReceiveDeps, { order_id, order, run }: ReceiveOrderInput) {
  const parsed = v.safeParse(OrderInput, order);
  if (parsed.success)
    return orders.receive({ ...parsed.output, order_id }, run, await requestHash(parsed.output, StartInput, hash));
  const { order_id: _, ...entries } = OrderInput.entries;
  return orders.receive({ ...validFields(entries, order), order_id }, run, null);
}

/**
 * Returns the fields of `given` that are valid on their own, unchanged: what is recorded of an invalid order. The whole
 * argument is in the workflow's history.
 */
export function validFields<E extends v.ObjectEntries>(entries: E, given: unknown): Partial<Output<E>> {
  const fields = given !== null && typeof given === 'object' ? given : {};
  const valid = Object.entries(fields).filter(([name, value]) => {
    const schema = Object.hasOwn(entries, name) ? entries[name] : undefined;
    return schema !== undefined && v.is(schema, value);
  });
  return Object.fromEntries(valid) as Partial<Output<E>>;
}

type Output<E extends v.ObjectEntries> = v.InferOutput<v.ObjectSchema<E, undefined>>;
