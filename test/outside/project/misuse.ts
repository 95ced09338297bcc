/** What must not compile. An error that is expected here and absent fails the compilation. */
import { type ClientError, createOrdersClient, type State } from '@trellis/client';

const orders = createOrdersClient('http://localhost:8000');
const order_id = 'o-1';
const { signal } = new AbortController();

export const correct = [
  orders.signal.approve.mutate({ order_id }, { context: { idempotencyKey: 'k' }, signal }),
  orders.signal.cancel.mutate({ order_id, reason: 'why' }, { signal }),
  orders.status.query({ order_id }, { signal }),
];

export const misspelt = [
  // @ts-expect-error idempotencyKey, misspelt
  orders.signal.approve.mutate({ order_id }, { context: { idempotencykey: 'k' } }),
  // @ts-expect-error a key of the context that does not exist
  orders.signal.cancel.mutate({ order_id }, { context: { idempotencyKey: 'k', retries: 3 } }),
  // @ts-expect-error a key of another type
  orders.signal.approve.mutate({ order_id }, { context: { idempotencyKey: 7 } }),
  // @ts-expect-error a start has no key
  orders.start.mutate({ order_id, payment_id: 'p', address: { line1: '1', city: 'C' }, items: [] }, { context: {} }),
  // @ts-expect-error a field that does not exist
  orders.signal.approve.mutate({ order_id, note: 'now' }),
  // @ts-expect-error a command that does not exist
  orders.signal.refund,
];

export function detailsOf(error: ClientError): State | number | string | undefined {
  // @ts-expect-error not every code has a state
  const { state } = error;
  if (error.code === 'BUSY') return error.retry_after;
  if (error.code === 'TOO_LATE') return error.state;
  if (error.code === 'INVALID') return error.errors[0]?.path;
  // @ts-expect-error a code that does not exist
  return error.code === 'LATE' ? state : error.message;
}
