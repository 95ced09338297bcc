/** An order's states, steps and failure reasons. Plain data, safe to import from workflow code. */

/** In the sequence in which an order passes through them; a state is only ever replaced by a later one. */
export const OPEN_STATES = ['received', 'awaiting_approval', 'approved', 'payment_charged', 'shipping'] as const;
export const TERMINAL_STATES = ['shipped', 'canceled', 'expired', 'failed'] as const;
export const STATES = [...OPEN_STATES, ...TERMINAL_STATES] as const;

export type OpenState = (typeof OPEN_STATES)[number];
export type TerminalState = (typeof TERMINAL_STATES)[number];
export type State = (typeof STATES)[number];

export function isTerminal(state: State): state is TerminalState {
  return (TERMINAL_STATES as readonly State[]).includes(state);
}

/** True when `next` may replace `current`: states only move forward, and a terminal state is never replaced. */
export function movesForward(current: State, next: State): boolean {
  return !isTerminal(current) && STATES.indexOf(next) > STATES.indexOf(current);
}

/** An order's position in the workflow. It stays where the order stopped; `done` only when shipped. */
export const STEPS = [
  'init',
  'receive_order',
  'validate_order',
  'awaiting_approval',
  'charge_payment',
  'shipping_child',
  'mark_shipped',
  'done',
] as const;
export type Step = (typeof STEPS)[number];

/** Why an order ended `failed`. */
export const FAILURE_REASONS = [
  'INVALID_ORDER',
  'UNAPPROVED',
  'PAYMENT_DECLINED',
  'PAYMENT_CONFLICT',
  'CARRIER_REFUSED',
  'DEADLINE',
] as const;
export type FailureReason = (typeof FAILURE_REASONS)[number];

/** How an order ends when it does not ship. `detail` is a message for people. */
export type Ending =
  | { state: 'canceled'; reason: string }
  | { state: 'expired' }
  | { state: 'failed'; reason: FailureReason; detail?: string };
