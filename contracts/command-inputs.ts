/** Inputs and outputs of the API's commands. */
import * as v from 'valibot';
import { type Command, DEFAULT_CANCEL_REASON, MAX_REASON_LENGTH } from './commands.ts';
import { COMMAND_ID_PATTERN } from './id.ts';
import { Address, OrderRef } from './order.ts';
import { State } from './order-status.ts';
import { text } from './text.ts';

export const ApproveInput = v.object({ order_id: OrderRef });

export const CancelInput = v.object({
  order_id: OrderRef,
  reason: v.optional(text(1, MAX_REASON_LENGTH), DEFAULT_CANCEL_REASON),
});

export const AddressInput = v.object({ order_id: OrderRef, address: Address });

/** The API's input schema for each command. Only the field that `COMMANDS` names as its `argument` is sent to the workflow. */
export const COMMAND_INPUTS = {
  approve: ApproveInput,
  cancel: CancelInput,
  address: AddressInput,
} as const satisfies Record<Command, v.GenericSchema>;

/** The command was decided. */
export const SignalDecided = v.object({
  ok: v.literal(true),
  state: State,
  changed: v.pipe(v.boolean(), v.description('False when the command repeats what already holds.')),
});

/** Temporal has stored the command; a worker will decide it. */
export const SignalQueued = v.object({ ok: v.literal(true), queued: v.literal(true) });

export const SignalOutput = v.union([SignalDecided, SignalQueued]);
export type SignalOutput = v.InferOutput<typeof SignalOutput>;

/** A command's id, chosen by the caller. */
export const IdempotencyKey = v.pipe(
  v.string(),
  v.regex(COMMAND_ID_PATTERN, 'must be 1 to 128 printable ASCII characters without spaces'),
  // OpenAPI shows no pattern: some tools generate one value from a pattern and send it with every command.
  v.metadata({ pattern: undefined, minLength: 1, maxLength: 128 }),
);
