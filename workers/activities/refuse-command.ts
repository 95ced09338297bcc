import type { Actor } from '@trellis/contracts/actor';
import type { Command } from '@trellis/contracts/commands';
import type { ErrorCode } from '@trellis/contracts/error';
import type { State } from '@trellis/contracts/states-and-steps';
import type { OrderStore } from '@trellis/drizzle/orders';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export interface Refusal {
  command: Command;
  id: string;
  code: ErrorCode;
  state: State;
}

export interface RefuseCommandInput extends ActivityInput {
  refusal: Refusal;
  actor?: Actor;
}

/** Records a refused signal as an event: a signal has no answer that could carry the refusal. */
export function createRefuseCommand(deps: AttemptDeps & { orders: OrderStore }) {
  return async function refuse_command(input: RefuseCommandInput): Promise<void> {
    return attempt(deps, input, () => deps.orders.commandRefused(input.order_id, input.refusal, input.actor));
  };
}
