/** Temporal's clock, known from the times that it stamps, whatever this machine's clock says; and durations, whatever it is set to. */
import { setTimeout } from 'node:timers/promises';
import { createAdmission } from '@trellis/api/orders/admission';
import type { CapacityStore } from '@trellis/drizzle/capacity';
import { createServerClock } from '@trellis/workers/server-clock';
import { expect, onTestFinished, test, vi } from 'vitest';

/** A clock whose process has run for `elapsed` milliseconds while Temporal's clock said 1,000,000 at its start. */
function aClock() {
  let elapsed = 0;
  const clock = createServerClock(() => elapsed);
  return {
    clock,
    pass: (milliseconds: number) => (elapsed += milliseconds),
    /** A message that took `delay` milliseconds. */
    receive: (delay: number, ahead = 0) => clock.observe(1_000_000 + ahead + elapsed - delay),
    behind: (ahead = 0) => 1_000_000 + ahead + elapsed - clock.now(),
  };
}

test('the fastest message of the last minutes decides, so that a slow one does not set the clock back', () => {
  const { pass, receive, behind } = aClock();
  receive(40);
  receive(3);
  pass(5_000);
  receive(2_000);
  expect(behind()).toBe(3);
});

test('it never runs ahead of Temporal', () => {
  const { pass, receive, behind } = aClock();
  for (const delay of [5, 700, 30, 9_000]) {
    receive(delay);
    pass(60_000);
    expect(behind()).toBeGreaterThanOrEqual(0);
  }
});

test('it follows at once when Temporal’s clock is set ahead, and within minutes when it is set back', () => {
  const { pass, receive, behind } = aClock();
  receive(5);
  receive(5, 86_400_000);
  expect(behind(86_400_000)).toBe(5);
  for (let minute = 0; minute < 5; minute += 1) {
    receive(5);
    pass(60_000);
  }
  expect(behind()).toBe(5);
});

test('it keeps the difference through an hour without stamps', () => {
  const { pass, receive, behind } = aClock();
  receive(5);
  pass(3_600_000);
  receive(4_000);
  expect(behind()).toBe(5);
});

test('it forgets the difference after a day without stamps, in which the clocks may have drifted apart', () => {
  const { pass, receive, behind } = aClock();
  receive(5);
  pass(86_400_000);
  receive(4_000);
  expect(behind()).toBe(4_000);
});

test('a clock that is set back an hour holds no start back', async () => {
  onTestFinished(() => void vi.useRealTimers());
  const full = { admitted: false as const, freeIn: 0.05, ordersPerSecond: 20 };
  const decisions = [full, { admitted: true as const }];
  const admit = async () => decisions.shift() ?? full;
  const admission = createAdmission({ admit } as unknown as CapacityStore, 'exercise');
  expect(await admission.admit('o-1')).toMatchObject({ admitted: false });
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 3_600_000 });
  await setTimeout(60);
  expect(await admission.admit('o-1')).toMatchObject({ admitted: true });
});
