/** `npm run worker`: the process that runs workflows and activities. It polls both task queues unless WORKER_QUEUES names one. */
import { NativeConnection, TransportError } from '@temporalio/worker';
import { createLogger } from '@trellis/contracts/config/logger';
import { createTemporalClient, fromEnvironmentAndProfile } from '@trellis/contracts/config/temporal-client';
import { PROGRAMS } from '@trellis/contracts/config/variables';
import { openDatabase } from '@trellis/drizzle/client';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox/books';
import { openStores } from '@trellis/drizzle/stores';
import { createAttemptLog } from './activities/attempt-log.ts';
import { flaky_call } from './activities/flaky-call.ts';
import { createActivities } from './activities/index.ts';
import { bundleWorkflows, createWorker } from './create-worker.ts';
import { createStartLatencies, measureCapacity } from './jobs/measure-capacity.ts';
import { sweep } from './jobs/sweep.ts';
import { createSandboxCarrier } from './providers/sandbox/carrier.ts';
import { createSandboxPaymentCompany } from './providers/sandbox/payment-company.ts';
import { createServerClock } from './server-clock.ts';
import { installTemporalRuntime } from './temporal-runtime.ts';

const config = fromEnvironmentAndProfile(PROGRAMS.worker);

const log = createLogger(config.LOG_LEVEL);
installTemporalRuntime(log);
const db = openDatabase(config.DATABASE_URL);
const sandbox = openDatabase(config.SANDBOX_DATABASE_URL ?? config.DATABASE_URL);
const stores = openStores(db);
const attempts = createAttemptLog(stores.attempts, log);
const clock = createServerClock();
const deps = {
  ...stores,
  clock,
  paymentCompany: createSandboxPaymentCompany(createPaymentBook(sandbox)),
  carrier: createSandboxCarrier(createParcelBook(sandbox)),
  onFailedAttempt: attempts.record,
  ...(config.FLAKY_CALL === 'on' ? { flakyCall: () => flaky_call() } : {}),
};

const connection = await NativeConnection.connect({ address: config.TEMPORAL_ADDRESS, ...config.temporal }).catch(
  exitIfUnreachable,
);
const workflowBundle = await bundleWorkflows();
const activities = createActivities(deps);
const { TEMPORAL_DEPLOYMENT_NAME: deploymentName, TEMPORAL_WORKER_BUILD_ID: buildId } = config;
const version = buildId === undefined ? undefined : { deploymentName, buildId };
const latencies = createStartLatencies(clock);
const interceptors = { activity: [latencies.interceptor] };
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
).catch(exitIfUnreachable);
const running = Promise.all(workers.map((worker) => worker.run()));

const stopping = new AbortController();
const client = createTemporalClient(connection, config.TEMPORAL_NAMESPACE);
const measuring = measureCapacity({ capacity: stores.capacity, latencies, log, signal: stopping.signal });
const sweeping = config.WORKER_QUEUES.includes('orders')
  ? sweep({ client, views: stores.views, log, signal: stopping.signal })
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
// Abandoned calls that hang, as flaky_call does for minutes, would keep the process alive.
process.exit(0);

/** Ends the process with one line on stderr when, at the start, Temporal can't be reached or has no such namespace. */
function exitIfUnreachable(error: unknown): never {
  if (!(error instanceof TransportError)) throw error;
  const { TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE } = config;
  const reason = error.message.replace(/\s+/g, ' ');
  process.stderr.write(`TEMPORAL_ADDRESS (${TEMPORAL_ADDRESS}), namespace ${TEMPORAL_NAMESPACE}: ${reason}\n`);
  process.exit(1);
}
