/** An order keeps the numbers it was received with when the workers' code changes. */

import { expect, test } from 'vitest';
import { bundleEdited, otherPolicies } from '../edited-workflows.ts';
import { eventually } from '../fixtures.ts';
import { ownTestbed } from '../workflow-fixture.ts';

test('an order that began before its policy was edited ships under the numbers it began with', async () => {
  const bed = await ownTestbed({ queues: [], clock: 'real' });
  const stop = await bed.startWorkers('orders');
  const order = await bed.place();
  await eventually(async () => (await order.status()).step === 'awaiting_approval');
  await stop();

  // With the edited numbers the order's deadline has passed: it would end failed, uncharged.
  const edited = await bundleEdited({ 'contracts/policy.ts': otherPolicies({ frozen: true }) });
  await bed.startWorkersOf(edited, 'orders', 'shipping');
  await order.update('approve');
  expect(await order.end()).toBe('shipped');
});
