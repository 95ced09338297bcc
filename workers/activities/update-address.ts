import type { Actor } from '@trellis/contracts/actor';
import type { Problem } from '@trellis/contracts/error';
import { Address, problemsOf } from '@trellis/contracts/order';
import type { OrderStore } from '@trellis/drizzle/orders';
import * as v from 'valibot';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export interface UpdateAddressInput extends ActivityInput {
  /** As the caller sent it, not validated. */
  address: unknown;
  command_id: string;
  /** The shipping attempts that the order had begun when the command was decided. */
  child_attempts?: number;
  actor?: Actor;
}

export type AddressUpdated =
  /** `address`: the order's, which is that of a later command if a lost worker had applied both. */
  { outcome: 'written'; address: Address } | { outcome: 'invalid'; problems: Problem[] } | { outcome: 'closed' };

/** Validates a new address and writes it to the order's row; `closed` when the order has ended. */
export function createUpdateAddress(deps: AttemptDeps & { orders: OrderStore }) {
  const { orders } = deps;
  return async function update_address(input: UpdateAddressInput): Promise<AddressUpdated> {
    return attempt(deps, input, async () => {
      const parsed = v.safeParse(Address, input.address);
      if (!parsed.success) return { outcome: 'invalid', problems: problemsOf(parsed.issues) };
      const { order_id, command_id, child_attempts: attempts, actor } = input;
      const known = { ...(attempts !== undefined && { attempts }), ...(actor && { actor }) };
      const address = await orders.changeAddress(order_id, parsed.output, command_id, known);
      return address ? { outcome: 'written', address } : { outcome: 'closed' };
    });
  };
}
