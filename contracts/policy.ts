/** The rules an order lives by. They travel with the order, so a running order never changes its rules. Durations in milliseconds. */
export interface Policy {
  /** How long a person may take to approve, from the end of validation. */
  readonly review_ms: number;
  /** From start to the end of the order, whatever its outcome. */
  readonly budget_ms: number;
  /** The part of the budget kept for giving the money back. */
  readonly refund_reserve_ms: number;
  /** Whether the wait for approval is part of the budget; if not, the budget starts anew with the approval. */
  readonly review_in_budget: boolean;
  /** An order is admitted while the workers will be through with those before it within this. */
  readonly queue_ms: number;
  /** Pause between two tries to ship. A new address ends it at once. */
  readonly shipping_backoff_ms: number;
  /** Tries to ship that an order gets even when each of them hangs. */
  readonly min_shipping_attempts: number;
  /** The least time a try to ship is given. */
  readonly shipping_attempt_ms: number;
}

export const POLICIES = {
  exercise: {
    review_ms: 3_000,
    budget_ms: 15_000,
    refund_reserve_ms: 3_000,
    review_in_budget: true,
    queue_ms: 5_000,
    shipping_backoff_ms: 1_000,
    min_shipping_attempts: 3,
    shipping_attempt_ms: 1_000,
  },
  production: {
    review_ms: 24 * 3_600_000,
    budget_ms: 6 * 3_600_000,
    refund_reserve_ms: 1_800_000,
    review_in_budget: false,
    queue_ms: 5 * 3_600_000,
    shipping_backoff_ms: 60_000,
    min_shipping_attempts: 3,
    shipping_attempt_ms: 60_000,
  },
} as const satisfies Record<string, Policy>;

export type PolicyName = keyof typeof POLICIES;
export const POLICY_NAMES = Object.keys(POLICIES) as PolicyName[];

/** The policy an order's fifth key names; absent or unknown means the exercise's. */
export function policyOf(name: unknown): Policy {
  return POLICY_NAMES.includes(name as PolicyName) ? POLICIES[name as PolicyName] : POLICIES.exercise;
}
