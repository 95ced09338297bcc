import { nextRate } from '@trellis/workers/jobs/capacity';
import { describe, expect, test } from 'vitest';

describe('the rate that workers promise', () => {
  const at = (ordersPerSecond: number, shippedPerSecond: number) => ({ ordersPerSecond, shippedPerSecond });

  test('stays when they had few orders', () => {
    expect(nextRate(at(6, 0.5), 0)).toBe(6);
  });

  test('grows while they keep up, to a little more than they finish', () => {
    let rate = 6;
    for (let second = 0; second < 60; second += 1) rate = nextRate(at(rate, Math.min(rate, 8)), 0);
    expect(rate).toBeGreaterThan(8);
    expect(rate).toBeLessThan(9);
  });

  test('falls to what they finish when they fall behind, but not after a short lag', () => {
    expect(nextRate(at(6, 1), 2)).toBe(6);
    let rate = 12;
    for (let second = 5; second < 45; second += 1) rate = nextRate(at(rate, 4), second);
    expect(rate).toBeCloseTo(4, 1);
  });

  test('never falls so low that a recovery could not be measured', () => {
    let rate = 6;
    for (let second = 5; second < 100; second += 1) rate = nextRate(at(rate, 0), second);
    expect(rate).toBe(2);
  });
});
