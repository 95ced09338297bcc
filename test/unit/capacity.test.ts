import { nextRate } from '@trellis/workers/jobs/measure-capacity';
import { describe, expect, test } from 'vitest';

describe('the admission rate', () => {
  const at = (ordersPerSecond: number, shippedPerSecond: number) => ({ ordersPerSecond, shippedPerSecond });

  test('stays the same while the workers are not overloaded and ship few orders', () => {
    expect(nextRate(at(12, 0.5), 0)).toBe(12);
  });

  test('recovers from an overload within minutes to its initial value, though few orders arrive', () => {
    let rate = 2;
    for (let second = 0; second < 180; second += 1) rate = nextRate(at(rate, 0.5), 0);
    expect(rate).toBe(8);
  });

  test('grows while the workers keep up, to slightly more than they ship', () => {
    let rate = 6;
    for (let second = 0; second < 60; second += 1) rate = nextRate(at(rate, Math.min(rate, 8)), 0);
    expect(rate).toBeGreaterThan(8);
    expect(rate).toBeLessThan(9);
  });

  test('falls to the shipped rate when the workers stay overloaded, but not after a short overload', () => {
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
