import { MockActivityEnvironment } from '@temporalio/testing';
import { createStartLatencies, nextRate } from '@trellis/workers/jobs/measure-capacity';
import { createServerClock } from '@trellis/workers/server-clock';
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

test.each([
  true,
  false,
])('the delay of an activity is measured from when it was scheduled, that of a local one from its run’s start: %s', async (isLocal) => {
  const latencies = createStartLatencies(createServerClock());
  const [early, late] = [1_000_000, 1_000_400];
  for (const scheduled of [late, early, early]) {
    const info = { isLocal, ...(isLocal ? {} : { currentAttemptScheduledTimestampMs: scheduled }) };
    const activity = new MockActivityEnvironment(info, { interceptors: [latencies.interceptor] });
    await activity.run(async (_input: object) => undefined, { order_id: 'o-1', run_started_at: scheduled });
  }
  expect(latencies.takeMedian()).toBeGreaterThan(350);
  expect(latencies.takeMedian()).toBeUndefined();
});
