/** The time limits and attempt counts that an order is run with. Plain data, safe to import from workflow code. */

/** Durations in milliseconds. Histories record these keys (in `receive_order`'s result): add optional ones, rename none. */
export interface Policy {
  /** How long a person may take to approve, from the end of validation. */
  readonly review_ms: number;
  /** From the start of the order to its end, whatever its outcome. */
  readonly budget_ms: number;
  /** The part of the budget reserved for the refund. */
  readonly refund_reserve_ms: number;
  /** True: the review is part of the budget. False: the budget starts with the approval. */
  readonly review_in_budget: boolean;
  /** Pause between two shipping attempts. A new address ends it at once. */
  readonly shipping_backoff_ms: number;
  /** Shipping attempts that an order gets even when each of them hangs. */
  readonly min_shipping_attempts: number;
  /** The least time that one shipping attempt gets. */
  readonly shipping_attempt_ms: number;
  /**
   * How long a call to the payment company or the carrier may hold a workflow task, in which no command is decided; afterwards it
   * goes on outside. Absent in orders of versions up to 0.4, which make no call inside.
   */
  readonly call_in_task_ms?: number;
}

/**
 * What new orders start with. An order's numbers are recorded when it is received, so an edit here changes no order that is
 * already running.
 */
export const POLICIES = {
  exercise: {
    review_ms: 3_000,
    budget_ms: 15_000,
    refund_reserve_ms: 3_000,
    review_in_budget: true,
    shipping_backoff_ms: 1_000,
    min_shipping_attempts: 3,
    shipping_attempt_ms: 1_000,
    call_in_task_ms: 500,
  },
  production: {
    review_ms: 24 * 3_600_000,
    budget_ms: 6 * 3_600_000,
    refund_reserve_ms: 1_800_000,
    review_in_budget: false,
    shipping_backoff_ms: 60_000,
    min_shipping_attempts: 3,
    shipping_attempt_ms: 60_000,
    call_in_task_ms: 500,
  },
} as const satisfies Record<string, Policy>;

export type PolicyName = keyof typeof POLICIES;
export const POLICY_NAMES = Object.keys(POLICIES) as PolicyName[];

/**
 * The numbers of versions 0.1.0 and 0.2.0, whose histories don't record them. Never edit: orders that began under those
 * versions are replayed with it. Delete it together with their histories.
 */
export const POLICIES_UNTIL_0_2 = {
  exercise: {
    review_ms: 3_000,
    budget_ms: 15_000,
    refund_reserve_ms: 3_000,
    review_in_budget: true,
    shipping_backoff_ms: 1_000,
    min_shipping_attempts: 3,
    shipping_attempt_ms: 1_000,
  },
  production: {
    review_ms: 86_400_000,
    budget_ms: 21_600_000,
    refund_reserve_ms: 1_800_000,
    review_in_budget: false,
    shipping_backoff_ms: 60_000,
    min_shipping_attempts: 3,
    shipping_attempt_ms: 60_000,
  },
} as const satisfies Record<'exercise' | 'production', Policy>;

/** The policy's name in OrderInput.policy; anything but a known name means exercise. */
export const policyNameOf = (given: unknown): PolicyName => POLICY_NAMES.find((name) => name === given) ?? 'exercise';

/** The policy that OrderInput.policy names; anything but a known name means exercise. */
export function policyOf(name: unknown, policies: Readonly<Record<'exercise', Policy>> = POLICIES): Policy {
  const known: Readonly<Partial<Record<PolicyName, Policy>>> = policies;
  return known[policyNameOf(name)] ?? policies.exercise;
}

/** Longest acceptable queue, for admission: the time that the workers may need for the orders already admitted. */
export const MAX_QUEUE_MS = {
  exercise: 5_000,
  production: 5 * 3_600_000,
} as const satisfies Record<PolicyName, number>;

/** Orders of one shop that may wait for their approval at a time. */
export const MAX_UNAPPROVED_ORDERS = 10_000;
