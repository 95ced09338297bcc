import { MockActivityEnvironment } from '@temporalio/testing';
import { ACTIVITIES, type ActivityName } from '@trellis/contracts/activities';
import { OrderInput } from '@trellis/contracts/order';
import { attempt } from '@trellis/workers/activities/attempt';
import { validFields } from '@trellis/workers/activities/receive-order';
import * as v from 'valibot';
import { expect, test } from 'vitest';

test('the six steps and the refund await flaky_call before each attempt, other endings and commands do not', async () => {
  const flaky: Record<string, boolean> = {};
  for (const activityType of Object.keys(ACTIVITIES) as ActivityName[]) {
    const calls: string[] = [];
    const deps = { flakyCall: async () => void calls.push('flaky'), onFailedAttempt: () => {} };
    await new MockActivityEnvironment({ activityType }).run(() =>
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
