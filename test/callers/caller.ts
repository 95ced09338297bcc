/** A shop's own TypeScript, anywhere that has `fetch`: it knows the typed client and nothing else of this codebase. */
import { createOrdersClient, type OrdersClient, orderErrorOf } from '@trellis/client';

type Order = Parameters<OrdersClient['start']['mutate']>[0];

const CLOSED = ['shipped', 'canceled', 'expired', 'failed'];

/** Buys an order, and tries to approve `unknown`, which nobody ever started. */
export async function buy(url: string, order: Order, unknown: string) {
  const orders = createOrdersClient(url);
  const { order_id } = order;
  const started = await orders.start.mutate(order);
  const context = { idempotencyKey: `approve-${order_id}` };
  const approved = await orders.signal.approve.mutate({ order_id }, { context });
  const signal = AbortSignal.timeout(20_000);
  let status = await orders.status.query({ order_id }, { signal });
  while (!CLOSED.includes(status.state)) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    status = await orders.status.query({ order_id }, { signal });
  }
  const refused = await orders.signal.approve.mutate({ order_id: unknown }).catch(orderErrorOf);
  return { started, approved, status, refused };
}

/** The same as a worker on the edge. */
export default {
  async fetch(request: Request, env: { API_URL: string }): Promise<Response> {
    const { order, unknown } = (await request.json()) as { order: Order; unknown: string };
    return Response.json(await buy(env.API_URL, order, unknown));
  },
};
