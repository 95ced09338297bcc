import type { Ending, State } from '@trellis/contracts/lifecycle';
import type { Progress } from '@trellis/contracts/status';
import type { OrderStore } from '@trellis/drizzle/orders';
import { type AttemptDeps, attempt } from './attempt.ts';
import { type ReceiveOrderInput, receive } from './receive-order.ts';

export interface CloseOrderInput extends ReceiveOrderInput {
  ending: Ending;
  progress: Progress;
}

/** Closes an order that holds no money; `owed` when it turns out to. It has to happen, so no fault is injected. */
export function createCloseOrder({ orders, onFailedAttempt }: AttemptDeps & { orders: OrderStore }) {
  return async function close_order(input: CloseOrderInput): Promise<State | 'owed'> {
    return attempt({ onFailedAttempt }, input, async () => {
      const { owner, state } = await receive(orders, input);
      return owner ? orders.end(input.order_id, input.ending, input.progress) : state;
    });
  };
}
