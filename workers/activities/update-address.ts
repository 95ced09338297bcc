import type { Problem } from '@trellis/contracts/error';
import { Address, problemsOf } from '@trellis/contracts/order';
import type { OrderStore } from '@trellis/drizzle/orders';
import * as v from 'valibot';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

export interface UpdateAddressInput extends ActivityInput {
  /** As the caller sent it, not validated. */
  address: unknown;
  command_id: string;
}

export type AddressUpdated =
  | { outcome: 'written'; address: Address }
  | { outcome: 'invalid'; problems: Problem[] }
  | { outcome: 'closed' };

/** Validates a new address and writes it to the order's row; `closed` when the order has ended. */
export function createUpdateAddress(deps: AttemptDeps & { orders: OrderStore }) {
  const { orders } = deps;
  return async function update_address(input: UpdateAddressInput): Promise<AddressUpdated> {
    return attempt(deps, input, async () => {
      const parsed = v.safeParse(Address, input.address);
      if (!parsed.success) return { outcome: 'invalid', problems: problemsOf(parsed.issues) };
      const written = await orders.changeAddress(input.order_id, parsed.output, input.command_id);
      return written ? { outcome: 'written', address: parsed.output } : { outcome: 'closed' };
    });
  };
}
