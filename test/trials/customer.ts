/** A shop's customer: sends commands through the typed client, as often as it takes, and remembers what was answered. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ClientError, createOrdersClient, orderErrorOf } from '@trellis/client';
import type { Command } from '@trellis/contracts/command';
import type { Address, StartInput } from '@trellis/contracts/order';
import type { Answer, OrderView } from './promises.ts';

/** The API doesn't answer at all within this: the call is lost. Milliseconds. */
const CALL_WITHIN_MS = 6_000;

export interface Customer {
  /** True once the order is accepted; false when that couldn't be learnt within the customer's patience. */
  start(order: StartInput): Promise<boolean>;
  /** Sends a command, under one id however often. */
  ask(orderId: string, command: Command, options?: { address?: Address; key?: string }): Promise<Answer>;
  /** The order as it stands; undefined when nobody knows it. */
  get(orderId: string): Promise<OrderView | undefined>;
}

/** A customer of the API at `url` who tries for `patience` milliseconds again when it doesn't answer or can't now. */
export function createCustomer(url: string, patience: number): Customer {
  const client = createOrdersClient(url);

  /** The answer, or the API's refusal; undefined when patience ran out first. BUSY is waited for in any case. */
  async function call<T>(
    send: (signal: AbortSignal) => Promise<T>,
  ): Promise<{ answer: T } | { refused: ClientError } | undefined> {
    const end = Date.now() + patience;
    for (;;) {
      try {
        return { answer: await send(AbortSignal.timeout(CALL_WITHIN_MS)) };
      } catch (error) {
        const refused = orderErrorOf(error);
        const passing = refused === undefined || refused.code === 'UNAVAILABLE' || refused.code === 'INTERNAL';
        if (refused?.code !== 'BUSY' && !passing) return { refused };
        if (passing && Date.now() > end) return undefined;
        await sleep(1000 * (refused?.code === 'BUSY' ? refused.retry_after : 1));
      }
    }
  }

  function sender(order_id: string, command: Command, address: Address | undefined, idempotencyKey: string) {
    const context = { idempotencyKey };
    return (signal: AbortSignal) => {
      if (command === 'approve') return client.signal.approve.mutate({ order_id }, { context, signal });
      if (command === 'cancel') return client.signal.cancel.mutate({ order_id }, { context, signal });
      return client.signal.updateAddress.mutate({ order_id, address: address as Address }, { context, signal });
    };
  }

  return {
    async start(order) {
      const said = await call((signal) => client.start.mutate(order, { signal }));
      if (said && 'refused' in said) throw new Error(`${order.order_id} was refused: ${said.refused.message}`);
      return said !== undefined;
    },

    async ask(orderId, command, { address, key = randomUUID() } = {}) {
      const said = await call(sender(orderId, command, address, key));
      const answer = { command, ...(address && { address }) };
      if (!said) return { ...answer, said: 'lost' };
      if ('refused' in said) return { ...answer, said: 'refused', code: said.refused.code };
      return 'queued' in said.answer
        ? { ...answer, said: 'queued' }
        : { ...answer, said: 'accepted', changed: said.answer.changed };
    },

    async get(orderId) {
      const said = await call((signal) => client.get.query({ order_id: orderId }, { signal }));
      if (!said) throw new Error(`the API did not tell about ${orderId}`);
      return 'answer' in said ? said.answer : undefined;
    },
  };
}
