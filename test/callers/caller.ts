/** A caller that runs wherever there is `fetch`. It imports the typed client and no other file of this repository. */
import { createOrdersClient, type OrdersClient, orderErrorOf } from '@trellis/client';

type Order = Parameters<OrdersClient['start']['mutate']>[0];

const TERMINAL_STATES = ['shipped', 'canceled', 'expired', 'failed'];

/** Of the callers who start orders, and who decide them. */
type Tokens = Record<'starting' | 'deciding', string>;

/**
 * Starts an order, approves it and polls until it ends; then approves `unknown`, an id that no order has. `tokens`: of an API that asks
 * for them.
 */
export async function buy(url: string, order: Order, unknown: string, tokens?: Tokens) {
  const orders = createOrdersClient(url, tokens && { token: tokens.starting });
  const decisions = createOrdersClient(url, tokens && { token: () => tokens.deciding }).signal;
  const { order_id } = order;
  const started = await orders.start.mutate(order);
  const context = { idempotencyKey: `approve-${order_id}` };
  const approved = await decisions.approve.mutate({ order_id }, { context });
  const signal = AbortSignal.timeout(20_000);
  let status = await orders.status.query({ order_id }, { signal });
  while (!TERMINAL_STATES.includes(status.state)) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    status = await orders.status.query({ order_id }, { signal });
  }
  const refused = await decisions.approve.mutate({ order_id: unknown }).catch(orderErrorOf);
  return { started, approved, status, refused };
}

/** The same as an edge runtime's module. */
export default {
  async fetch(request: Request, env: { API_URL: string }): Promise<Response> {
    const { order, unknown } = (await request.json()) as { order: Order; unknown: string };
    return Response.json(await buy(env.API_URL, order, unknown));
  },
};
