/** The API's commands: what comes in, what goes out. */
import * as v from 'valibot';
import { type Command, DEFAULT_CANCEL_REASON, MAX_REASON_LENGTH } from './command.ts';
import { COMMAND_ID_PATTERN } from './id.ts';
import { STATES } from './lifecycle.ts';
import { Address, OrderId } from './order.ts';
import { text } from './text.ts';

export const ApproveInput = v.object({ order_id: OrderId });

export const CancelInput = v.object({
  order_id: OrderId,
  reason: v.optional(text(1, MAX_REASON_LENGTH), DEFAULT_CANCEL_REASON),
});

export const AddressInput = v.object({ order_id: OrderId, address: Address });

/** The API's input of each command; the field that `COMMANDS` names as its argument travels to the workflow. */
export const COMMAND_INPUTS = {
  approve: ApproveInput,
  cancel: CancelInput,
  address: AddressInput,
} as const satisfies Record<Command, v.GenericSchema>;

/** Decided, or accepted for a decision that the order's worker has yet to make. */
export const SignalOutput = v.union([
  v.object({ ok: v.literal(true), state: v.picklist(STATES), changed: v.boolean() }),
  v.object({ ok: v.literal(true), queued: v.literal(true) }),
]);
export type SignalOutput = v.InferOutput<typeof SignalOutput>;

/** A command's id, chosen by the caller. */
export const IdempotencyKey = v.pipe(v.string(), v.regex(COMMAND_ID_PATTERN, 'must be 1 to 128 printable characters'));
