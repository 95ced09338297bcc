/** The commands on an order, and which of them an ended order still accepts. Plain data, safe to import from workflow code. */

import type { EventType } from './event.ts';
import type { State, TerminalState } from './states-and-steps.ts';

interface CommandEntry {
  /** The name of the command's signal and update in Temporal. */
  readonly temporal: string;
  /** The tRPC procedure, under `orders.signal`. */
  readonly procedure: string;
  /** The last part of the REST path, after `/orders/{id}/signals/`. */
  readonly path: string;
  /** The field of the API's input that is the command's argument in Temporal; null when it has none. */
  readonly argument: string | null;
  /** The event that records the command's effect. */
  readonly event: EventType;
  /** The terminal state that the command leads to, in which repeating it changes nothing; null when there is none. */
  readonly leadsTo: TerminalState | null;
  /** One line for the OpenAPI document. */
  readonly summary: string;
}

/** The one list of commands: router, REST, OpenAPI, client, workflow handlers and tests derive from it. */
export const COMMANDS = {
  approve: {
    temporal: 'approve',
    procedure: 'approve',
    path: 'approve',
    argument: null,
    event: 'order_approved',
    leadsTo: 'shipped',
    summary: 'Approve an order, so that it is charged and shipped',
  },
  cancel: {
    temporal: 'cancel_order',
    procedure: 'cancel',
    path: 'cancel',
    argument: 'reason',
    event: 'order_canceled',
    leadsTo: 'canceled',
    summary: 'Cancel an order; what was charged is refunded',
  },
  address: {
    temporal: 'update_address',
    procedure: 'updateAddress',
    path: 'address',
    argument: 'address',
    event: 'address_updated',
    leadsTo: null,
    summary: 'Change the delivery address, until the carrier has taken the parcel',
  },
} as const satisfies Record<string, CommandEntry>;

export type Command = keyof typeof COMMANDS;
export const COMMAND_NAMES = Object.keys(COMMANDS) as Command[];

/** The result of a command's update. `state`: the order's at the decision. `changed`: false when the command repeats what already holds. */
export interface CommandAnswer {
  command: Command;
  state: State;
  changed: boolean;
  /** The hash of the arguments that were decided, if the caller sent it as the last argument. */
  arguments_hash?: string;
}

/** How many commands one order accepts. They bound its history, its memory and its events, whatever callers send. */
export const COMMAND_LIMITS = {
  /** Address changes, valid or not, in the order's whole life. */
  addressChanges: 50,
  /** Commands of one kind that wait for their decision; of address changes only those sent as updates are refused for it. */
  undecided: 20,
  /** Repetitions that change nothing and are recorded in the history; later ones get their answer without a trace. */
  repetitions: 100,
  /** Refused signals that are recorded as events; later ones are only logged. */
  recordedRefusals: 50,
} as const;

/** The type of the failure with which an update beyond `COMMAND_LIMITS.repetitions` is answered; its details are the CommandAnswer. */
export const NO_CHANGE = 'NO_CHANGE';

/** True when the command repeats the one that led the order to this terminal state; every other command on an ended order is TOO_LATE. */
export function repeatsEnd(command: Command, state: TerminalState): boolean {
  return COMMANDS[command].leadsTo === state;
}

export const DEFAULT_CANCEL_REASON = 'user_request';
/** Counted in code points, not UTF-16 units. */
export const MAX_REASON_LENGTH = 200;

/** The cancel reason to store for a caller's value: truncated to the limit, the default for anything but non-empty text. */
export function cancelReasonOf(given: unknown): string {
  if (typeof given !== 'string' || given === '') return DEFAULT_CANCEL_REASON;
  // No code point has more than two UTF-16 units. A caller may send megabytes.
  const start = given.slice(0, 2 * MAX_REASON_LENGTH).toWellFormed();
  return [...start].slice(0, MAX_REASON_LENGTH).join('');
}
