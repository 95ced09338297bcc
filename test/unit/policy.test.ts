import { POLICIES, POLICIES_UNTIL_0_2, policyOf } from '@trellis/contracts/policy';
import { expect, test } from 'vitest';

test.each(
  Object.entries(POLICIES),
)('%s: review, guaranteed shipping attempts, their pauses and the refund fit into the budget', (_, policy) => {
  const { review_ms, review_in_budget, budget_ms, refund_reserve_ms } = policy;
  const { min_shipping_attempts, shipping_attempt_ms, shipping_backoff_ms } = policy;
  const review = review_in_budget ? review_ms : 0;
  const shipping = min_shipping_attempts * shipping_attempt_ms + (min_shipping_attempts - 1) * shipping_backoff_ms;
  expect(review + shipping + refund_reserve_ms).toBeLessThanOrEqual(budget_ms);
});

test.each([
  undefined,
  null,
  '',
  'unknown',
  'toString',
  '__proto__',
  7,
  {},
  ['production'],
])('the policy named %o is exercise', (name) => {
  expect(policyOf(name)).toBe(POLICIES.exercise);
  expect(policyOf(name, POLICIES_UNTIL_0_2)).toBe(POLICIES_UNTIL_0_2.exercise);
});

test('each policy is found by its name', () => {
  expect(policyOf('production')).toBe(POLICIES.production);
  expect(policyOf('production', POLICIES_UNTIL_0_2)).toBe(POLICIES_UNTIL_0_2.production);
});

test('the numbers of orders that began before 0.3.0 are what they were then', () => {
  expect(POLICIES_UNTIL_0_2).toEqual({
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
  });
});
