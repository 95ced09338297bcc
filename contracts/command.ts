/** Commands on a running order, and what an order that has closed answers them. Plain data, safe to import from workflow code. */
import type { ClosedState, State } from './lifecycle.ts';

export const COMMANDS = ['approve', 'cancel', 'address'] as const;
export type Command = (typeof COMMANDS)[number];

export const DEFAULT_CANCEL_REASON = 'user_request';
/** In characters, not in halves of them. */
export const MAX_REASON_LENGTH = 200;

/** A cancel's reason as it is kept, whatever the caller gave. */
export function cancelReasonOf(given: unknown): string {
  if (typeof given !== 'string' || given === '') return DEFAULT_CANCEL_REASON;
  return [...given.toWellFormed()].slice(0, MAX_REASON_LENGTH).join('');
}

/** A decided command: `changed` is false when it repeats what already holds. */
export interface CommandAnswer {
  command: Command;
  state: State;
  changed: boolean;
}

/** True when the command repeats what led the order to this end; every other command on a closed order is too late. */
export function repeatsOnClosed(command: Command, state: ClosedState): boolean {
  return (command === 'approve' && state === 'shipped') || (command === 'cancel' && state === 'canceled');
}
