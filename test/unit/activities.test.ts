import { ApplicationFailure, DefaultFailureConverter, defaultPayloadConverter } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { ACTIVITIES, type ActivityName } from '@trellis/contracts/activities';
import { OrderInput } from '@trellis/contracts/order';
import { DatabaseError } from '@trellis/drizzle/database';
import { attempt } from '@trellis/workers/activities/attempt';
import { validFields } from '@trellis/workers/activities/receive-order';
import { createServerClock } from '@trellis/workers/server-clock';
import * as v from 'valibot';
import { describe, expect, test, vi } from 'vitest';

test('the six steps and the refund await flaky_call before each attempt, other endings and commands do not', async () => {
  const flaky: Record<string, boolean> = {};
  for (const activityType of Object.keys(ACTIVITIES) as ActivityName[]) {
    const calls: string[] = [];
    const deps = {
      flakyCall: async () => void calls.push('flaky'),
      clock: createServerClock(),
      onFailedAttempt: () => {},
    };
    const [workflowType = ''] = ACTIVITIES[activityType].workflows;
    await new MockActivityEnvironment({ activityType, workflowType }).run(() =>
      attempt(deps, { order_id: 'o-1' }, async () => {
        calls.push('effect');
        if (calls.filter((call) => call === 'effect').length === 1) throw new Error('connection refused');
      }),
    );
    flaky[activityType] = calls.includes('flaky');
    expect(calls).toEqual(flaky[activityType] ? ['flaky', 'effect', 'flaky', 'effect'] : ['effect', 'effect']);
  }
  expect(flaky).toMatchObject({
    receive_order: true,
    validate_order: true,
    charge_payment: true,
    prepare_package: true,
    dispatch_carrier: true,
    mark_shipped: true,
    refund_payment: true,
    close_order: false,
    close_parcel: false,
    update_address: false,
    refuse_command: false,
    load_abandoned: false,
    erase_order: false,
  });
});

test.each(Object.entries(ACTIVITIES))('%s runs in its own workflows only', async (activityType, { workflows }) => {
  const deps = { clock: createServerClock(), onFailedAttempt: () => {} };
  const run = async (info: object) =>
    new MockActivityEnvironment({ activityType, ...info }).run(() =>
      attempt(deps, { order_id: 'o-1' }, async () => 'ran'),
    );
  for (const workflowType of workflows) expect(await run({ workflowType })).toBe('ran');
  const refused = { type: 'FORBIDDEN', nonRetryable: true };
  await expect(run({ workflowType: 'AnotherWorkflow' })).rejects.toMatchObject(refused);
  // Of an activity that a caller of Temporal starts by itself, the SDK knows no workflow.
  await expect(run({ workflowType: undefined, inWorkflow: false })).rejects.toMatchObject(refused);
});

/** Runs an activity whose effect always fails with `error`, at Temporal's attempt `schedule`. */
async function failing(error: Error, schedule: number) {
  const effect = vi.fn(() => Promise.reject(error));
  const onFailedAttempt = vi.fn();
  const deps = { clock: createServerClock(), onFailedAttempt };
  const environment = new MockActivityEnvironment({
    activityType: 'close_order',
    workflowType: 'OrderWorkflow',
    attempt: schedule,
  });
  const failure = await environment
    .run(() => attempt(deps, { order_id: 'o-1' }, effect))
    .catch((thrown) => thrown as ApplicationFailure);
  return {
    failure: failure as ApplicationFailure,
    calls: effect.mock.calls.length,
    reported: onFailedAttempt.mock.calls,
  };
}

describe('an activity whose effect fails', () => {
  const refused = Object.assign(new Error('connection refused'), {
    cause: new Error('Failed query: params: Jane Doe'),
  });

  test('is repeated at once, then with growing pauses', async () => {
    const { calls } = await failing(refused, 1);
    expect(calls).toBeGreaterThanOrEqual(6);
    expect(calls).toBeLessThanOrEqual(12);
    expect((await failing(refused, 4)).calls).toBe(1);
  });

  test('reports the words of the database for the log, beside those that callers see', async () => {
    const error = new DatabaseError('the database refused the statement', {
      kind: 'permanent',
      reason: 'ER_DATA_TOO_LONG',
    });
    const record = { order_id: 'o-1', step: 'close_order', attempt: 1, error: 'the database refused the statement' };
    expect((await failing(error, 1)).reported).toEqual([[record, 'ER_DATA_TOO_LONG']]);
  });

  test('with a permanent error is left to Temporal’s pauses, which grow to a minute', async () => {
    const error = new DatabaseError('the database refused the statement', { kind: 'permanent' });
    const failures = await Promise.all([1, 4, 9].map((schedule) => failing(error, schedule)));
    expect(failures.map(({ calls, failure }) => [calls, failure.nextRetryDelay])).toEqual([
      [1, 2_000],
      [1, 16_000],
      [1, 60_000],
    ]);
  });

  test('tells Temporal the message alone, nothing of its causes', async () => {
    const { failure } = await failing(refused, 4);
    expect(failure).toBeInstanceOf(ApplicationFailure);
    expect(failure).toMatchObject({ message: 'connection refused', nonRetryable: false });
    expect(
      JSON.stringify(new DefaultFailureConverter().errorToFailure(failure, defaultPayloadConverter)),
    ).not.toContain('Jane');
  });
});

test('an invalid order is received with each of its valid fields, also with one the schema gains later', () => {
  const entries = { ...OrderInput.entries, gift: v.boolean() };
  const valid = { payment_id: 'pay-1', items: [{ sku: 'ABC', qty: 1 }], policy: 'production', gift: true };
  expect(validFields(entries, { ...valid, address: null, unknown: 1 })).toEqual(valid);
  expect(validFields(entries, { ...valid, gift: 'yes' })).not.toHaveProperty('gift');
});

test.each([
  null,
  undefined,
  7,
  'order',
  [],
  [{ payment_id: 'pay-1' }],
])('an order that is %o has no valid field', (given) => {
  expect(validFields(OrderInput.entries, given)).toEqual({});
});

describe('a local activity whose workflow task began late', () => {
  const TIMEOUT = 3_000;

  /** Runs one that takes `milliseconds`, in a task that this process began `late` milliseconds after Temporal gave it out. */
  async function run(late: number, milliseconds: number) {
    let elapsed = 1_000_000;
    const clock = createServerClock(() => elapsed);
    clock.observe(elapsed);
    const effect = vi.fn(async () => {
      elapsed += milliseconds;
      return 'done';
    });
    const input = { order_id: 'o-1', sent_at: elapsed - late, task_timeout_ms: TIMEOUT };
    const environment = new MockActivityEnvironment({
      activityType: 'close_order',
      workflowType: 'OrderWorkflow',
      isLocal: true,
    });
    const outcome = await environment
      .run(() => attempt({ clock, onFailedAttempt: () => {} }, input, effect))
      .catch((failure: ApplicationFailure) => failure.type);
    return { outcome, calls: effect.mock.calls.length };
  }

  test('fails when Temporal has given up the task before its end, and else returns its result', async () => {
    expect(await run(1_000, 2_500)).toEqual({ outcome: 'TASK_ENDED', calls: 1 });
    expect(await run(1_000, 1_500)).toEqual({ outcome: 'done', calls: 1 });
    expect(await run(2_000, 10)).toEqual({ outcome: 'done', calls: 1 });
  });

  test('is not begun when the task is about to end', async () => {
    expect(await run(2_500, 10)).toEqual({ outcome: 'TASK_ENDED', calls: 0 });
  });

  test('may last longer than the task when the SDK completes that in time', async () => {
    expect(await run(20, 10_000)).toEqual({ outcome: 'done', calls: 1 });
  });
});
