import type { Command } from '@trellis/contracts/command';
import type { ErrorCode } from '@trellis/contracts/error';
import type { State } from '@trellis/contracts/lifecycle';
import type { OrderStore } from '@trellis/drizzle/orders';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export interface Refusal {
  command: Command;
  id: string;
  code: ErrorCode;
  state: State;
}

/** Notes a signal that asked for what the order's state forbids: nobody waits for its answer. */
export function createRefuseCommand({ orders, onFailedAttempt }: AttemptDeps & { orders: OrderStore }) {
  return async function refuse_command(input: ActivityInput & { refusal: Refusal }): Promise<void> {
    return attempt({ onFailedAttempt }, input, () => orders.commandRefused(input.order_id, input.refusal));
  };
}
