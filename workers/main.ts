/** `npm run worker`: the process that moves orders. It hosts both queues unless WORKER_QUEUES names one. */
import { Client } from '@temporalio/client';
import { NativeConnection } from '@temporalio/worker';
import { Variables } from '@trellis/contracts/config';
import { createAttemptStore } from '@trellis/drizzle/attempts';
import { createCapacityStore } from '@trellis/drizzle/capacity';
import { openDatabase } from '@trellis/drizzle/client';
import { fromEnvironment } from '@trellis/drizzle/environment';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { createPaymentStore } from '@trellis/drizzle/payments';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox';
import { createShipmentStore } from '@trellis/drizzle/shipments';
import * as v from 'valibot';
import { flaky_call } from './activities/flaky-call.ts';
import { createActivities } from './activities/index.ts';
import { createAttemptLog } from './attempt-log.ts';
import { createWaitLog, measureCapacity } from './capacity.ts';
import { createLogger } from './logger.ts';
import { createSandboxCarrier } from './providers/sandbox-carrier.ts';
import { createSandboxPaymentCompany } from './providers/sandbox-payment-company.ts';
import { sweep } from './sweep.ts';
import { bundleWorkflows, createWorker } from './worker.ts';

const { DATABASE_URL, SANDBOX_DATABASE_URL, FLAKY_CALL, LOG_LEVEL } = Variables;
const { TEMPORAL_ADDRESS, TEMPORAL_API_KEY, TEMPORAL_NAMESPACE } = Variables;
const { TEMPORAL_DEPLOYMENT_NAME, TEMPORAL_WORKER_BUILD_ID } = Variables;
const Queues = v.pipe(
  v.string(),
  v.transform((list) => list.split(',')),
  v.array(v.picklist(['orders', 'shipping'], 'must be orders, shipping, or both with a comma between')),
);
const config = fromEnvironment(
  v.object({
    DATABASE_URL,
    SANDBOX_DATABASE_URL,
    TEMPORAL_ADDRESS,
    TEMPORAL_API_KEY,
    TEMPORAL_NAMESPACE,
    TEMPORAL_DEPLOYMENT_NAME,
    TEMPORAL_WORKER_BUILD_ID,
    WORKER_QUEUES: v.optional(Queues, 'orders,shipping'),
    FLAKY_CALL,
    LOG_LEVEL,
  }),
);

const log = createLogger(config.LOG_LEVEL);
const db = openDatabase(config.DATABASE_URL);
const sandbox = openDatabase(config.SANDBOX_DATABASE_URL ?? config.DATABASE_URL);
const attempts = createAttemptLog(createAttemptStore(db), log);
const views = createOrderViews(db);
const deps = {
  views,
  orders: createOrderStore(db),
  payments: createPaymentStore(db),
  shipments: createShipmentStore(db),
  paymentCompany: createSandboxPaymentCompany(createPaymentBook(sandbox)),
  carrier: createSandboxCarrier(createParcelBook(sandbox)),
  onFailedAttempt: attempts.record,
  ...(config.FLAKY_CALL === 'on' ? { flakyCall: () => flaky_call() } : {}),
};

const apiKey = config.TEMPORAL_API_KEY;
const connection = await NativeConnection.connect({
  address: config.TEMPORAL_ADDRESS,
  ...(apiKey && { apiKey, tls: true }),
});
const workflowBundle = await bundleWorkflows();
const activities = createActivities(deps);
const { TEMPORAL_DEPLOYMENT_NAME: deploymentName, TEMPORAL_WORKER_BUILD_ID: buildId } = config;
const version = buildId === undefined ? undefined : { deploymentName, buildId };
const waits = createWaitLog();
const interceptors = { activity: [waits.interceptor] };
const workers = await Promise.all(
  config.WORKER_QUEUES.map((queue) =>
    createWorker(queue, {
      connection,
      namespace: config.TEMPORAL_NAMESPACE,
      activities,
      workflowBundle,
      interceptors,
      version,
    }),
  ),
);
const running = Promise.all(workers.map((worker) => worker.run()));

const stopping = new AbortController();
const client = new Client({ connection, namespace: config.TEMPORAL_NAMESPACE });
const measuring = measureCapacity({ capacity: createCapacityStore(db), waits, log, signal: stopping.signal });
const sweeping = config.WORKER_QUEUES.includes('orders')
  ? sweep({ client, views, log, signal: stopping.signal })
  : undefined;

const stop = () => {
  stopping.abort();
  for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
};
process.once('SIGTERM', stop).once('SIGINT', stop);
log.info({ queues: config.WORKER_QUEUES, faults: config.FLAKY_CALL }, 'worker started');
process.send?.('ready');

await running;
await Promise.all([sweeping, measuring]);
await attempts.flush();
await Promise.all([connection.close(), db.close(), sandbox.close()]);
// Calls that hang, as flaky_call does for minutes, would keep the process alive although nobody waits for them.
process.exit(0);
