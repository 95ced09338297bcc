/** A shop's two ways to the API: plain HTTP and the typed client. Both fail with a ShopError that has the API's code. */
import { setTimeout as sleep } from 'node:timers/promises';
import { createOrdersClient, type ErrorCode, type OrdersClient, orderErrorOf } from '@trellis/client';
import type { SignalOutput } from '@trellis/contracts/command-input';
import type { StartInput, StartOutput } from '@trellis/contracts/order';
import type { OrderStatus } from '@trellis/contracts/status';

export interface Shop {
  start(order: StartInput): Promise<StartOutput>;
  approve(orderId: string): Promise<SignalOutput>;
  cancel(orderId: string, reason: string): Promise<SignalOutput>;
  address(orderId: string, address: StartInput['address']): Promise<SignalOutput>;
  status(orderId: string): Promise<OrderStatus>;
  get(orderId: string): Promise<Awaited<ReturnType<OrdersClient['get']['query']>>>;
}

export class ShopError extends Error {
  override readonly name = 'ShopError';
  readonly code: ErrorCode;
  /** Seconds, of BUSY. */
  readonly retryAfter: number | undefined;

  constructor(code: ErrorCode, message: string, retryAfter?: number) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export function createHttpShop(url: string): Shop {
  async function call<T>(path: string, body?: unknown): Promise<T> {
    const response = await fetch(`${url}/orders/${path}`, {
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(15_000),
    });
    const answer = (await response.json()) as T & { code: ErrorCode; detail: string; retry_after?: number };
    if (!response.ok) throw new ShopError(answer.code, answer.detail, answer.retry_after);
    return answer;
  }
  return {
    start: ({ order_id, ...order }) => call(`${order_id}/start`, order),
    approve: (orderId) => call(`${orderId}/signals/approve`, {}),
    cancel: (orderId, reason) => call(`${orderId}/signals/cancel`, { reason }),
    address: (orderId, address) => call(`${orderId}/signals/address`, { address }),
    status: (orderId) => call(`${orderId}/status`),
    get: (orderId) => call(orderId),
  };
}

export function createTypedShop(url: string): Shop {
  const orders = createOrdersClient(url);
  async function call<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      const refused = orderErrorOf(error);
      const retryAfter = refused?.code === 'BUSY' ? refused.retry_after : undefined;
      throw refused ? new ShopError(refused.code, refused.message, retryAfter) : error;
    }
  }
  return {
    start: (order) => call(orders.start.mutate(order)),
    approve: (order_id) => call(orders.signal.approve.mutate({ order_id })),
    cancel: (order_id, reason) => call(orders.signal.cancel.mutate({ order_id, reason })),
    address: (order_id, address) => call(orders.signal.updateAddress.mutate({ order_id, address })),
    status: (order_id) => call(orders.status.query({ order_id })),
    get: (order_id) => call(orders.get.query({ order_id })),
  };
}

/** Starts an order once the workers have room for it; answers how often it was turned away, and when it was let in. */
export async function startWhenAdmitted(
  shop: Shop,
  order: StartInput,
): Promise<StartOutput & { refusals: number; at: number }> {
  for (let refusals = 0; ; refusals += 1) {
    const at = Date.now();
    try {
      return { ...(await shop.start(order)), refusals, at };
    } catch (error) {
      if (!(error instanceof ShopError) || error.code !== 'BUSY') throw error;
      await sleep(1000 * (error.retryAfter ?? 1));
    }
  }
}
