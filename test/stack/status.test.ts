/** While an activity of any of the six steps is retried, the status shows which one, how often it failed and why. */
import { Context } from '@temporalio/activity';
import { createStatusReader } from '@trellis/api/orders/status';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import type { Step } from '@trellis/contracts/states-and-steps';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { afterAll, expect, test } from 'vitest';
import { eventually } from '../fixtures.ts';
import { openTestbed } from '../workflow-fixture.ts';

/** The activity that fails at every attempt. */
let failing: string | undefined;
const bed = await openTestbed({
  clock: 'real',
  async flakyCall() {
    if (Context.current().info.activityType === failing) throw new Error('Forced failure for testing');
  },
});
afterAll(() => bed.close());

const temporal = createGrpcTemporal(createTemporalClient(bed.env.connection, bed.env.namespace ?? 'default'));
const deps = { temporal, views: createOrderViews(bed.db) };

test.each<[activity: string, step: Step]>([
  ['receive_order', 'receive_order'],
  ['validate_order', 'validate_order'],
  ['charge_payment', 'charge_payment'],
  ['prepare_package', 'shipping_child'],
  ['dispatch_carrier', 'shipping_child'],
  ['mark_shipped', 'mark_shipped'],
])('the status shows the retries of %s', async (activity, step) => {
  failing = activity;
  const order = await bed.placeApproved();
  const reader = createStatusReader(deps);
  const status = await eventually(async () => {
    const seen = await reader.read(order.id);
    return seen.retries >= 3 && seen;
  }).finally(() => {
    failing = undefined;
  });
  expect(status).toMatchObject({ step, activity, attempt: status.retries + 1 });
  expect(status.recent_errors[0]).toMatchObject({ step: activity, error: 'Forced failure for testing' });
  expect(await order.end()).toBe('shipped');
  expect(await reader.read(order.id)).toMatchObject({ state: 'shipped', retries: 0, activity: null });
});
