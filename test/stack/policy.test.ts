/** An order keeps the numbers it was received with when the workers' code changes. */

import { openDatabase } from '@trellis/drizzle/client';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox/books';
import { openStores } from '@trellis/drizzle/stores';
import { createActivities } from '@trellis/workers/activities/index';
import { createWorker, QUEUES, type QueueName } from '@trellis/workers/create-worker';
import { createSandboxCarrier } from '@trellis/workers/providers/sandbox/carrier';
import { createSandboxPaymentCompany } from '@trellis/workers/providers/sandbox/payment-company';
import { createServerClock } from '@trellis/workers/server-clock';
import { expect, onTestFinished, test } from 'vitest';
import { bundleEdited, otherPolicies } from '../edited-workflows.ts';
import { eventually } from '../fixtures.ts';
import { ownTestbed } from '../workflow-fixture.ts';

test('an order that began before its policy was edited ships under the numbers it began with', async () => {
  const bed = await ownTestbed({ queues: [], clock: 'real' });
  const stop = await bed.startWorkers('orders');
  const order = await bed.place();
  await eventually(async () => (await order.status()).step === 'awaiting_approval');
  await stop();

  const sandbox = openDatabase(bed.databaseUrl);
  const activities = createActivities({
    ...openStores(bed.db),
    paymentCompany: createSandboxPaymentCompany(createPaymentBook(sandbox)),
    carrier: createSandboxCarrier(createParcelBook(sandbox)),
    clock: createServerClock(),
    onFailedAttempt: () => {},
  });
  // With the edited numbers the order's deadline has passed: it would end failed, uncharged.
  const workflowBundle = await bundleEdited({ 'contracts/policy.ts': otherPolicies({ frozen: true }) });
  const { nativeConnection: connection, namespace = 'default' } = bed.env;
  const workers = await Promise.all(
    (Object.keys(QUEUES) as QueueName[]).map((queue) =>
      createWorker(queue, { connection, namespace, activities, workflowBundle }),
    ),
  );
  const running = Promise.all(workers.map((worker) => worker.run()));
  onTestFinished(async () => {
    for (const worker of workers) worker.shutdown();
    await running;
    await sandbox.close();
  });
  await order.update('approve');
  expect(await order.end()).toBe('shipped');
});
