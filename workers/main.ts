/** `npm run worker`: the process that runs workflows and activities. It polls both task queues unless WORKER_QUEUES names one. */
import { once } from 'node:events';
import { connect } from 'node:tls';
import { setFlagsFromString } from 'node:v8';
import { NativeConnection, TransportError } from '@temporalio/worker';
import { createApprovalCheck } from '@trellis/contracts/approval-proof';
import { readCommandLine } from '@trellis/contracts/config/command-line';
import { createLogger } from '@trellis/contracts/config/logger';
import { giveBackStartMemory } from '@trellis/contracts/config/start-memory';
import {
  createTemporalClient,
  fromEnvironmentAndProfile,
  type TemporalOptions,
} from '@trellis/contracts/config/temporal-client';
import { PROGRAMS } from '@trellis/contracts/config/variables';
import { createEncryption } from '@trellis/contracts/payload-codec';
import { checkDatabase, openDatabase } from '@trellis/drizzle/client';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox/books';
import * as sandboxSchema from '@trellis/drizzle/sandbox/schema';
import { openStores } from '@trellis/drizzle/stores';
import { workflowBundle } from '#workflow-bundle';
import { createAttemptLog } from './activities/attempt-log.ts';
import { flaky_call } from './activities/flaky-call.ts';
import { createActivities } from './activities/index.ts';
import { createWorker, QUEUES } from './create-worker.ts';
import { serveHealth } from './health.ts';
import { createStartLatencies, measureCapacity } from './jobs/measure-capacity.ts';
import { createRuns } from './jobs/runs.ts';
import { sweep } from './jobs/sweep.ts';
import { warnOfCurrentVersion, warnWithoutCurrentVersion } from './jobs/watch-version.ts';
import manifest from './package.json' with { type: 'json' };
import { createSandboxCarrier } from './providers/sandbox/carrier.ts';
import { createSandboxPaymentCompany } from './providers/sandbox/payment-company.ts';
import { createServerClock } from './server-clock.ts';
import { installTemporalRuntime } from './temporal-runtime.ts';

/** Patterns in the message of a failed connection, and the variable that is likely to be wrong. The server's certificate is checked before the client's. */
const CAUSES: [RegExp, string][] = [
  [/NotValidForName/, 'TEMPORAL_TLS_SERVER_NAME'],
  [/InvalidCertificate/, 'TEMPORAL_TLS_SERVER_CA_CERT_PATH'],
  [/CertificateRequired|UnexpectedEof|fatal alert/, 'TEMPORAL_TLS_CLIENT_CERT_PATH'],
  [/InvalidContentType/, 'TEMPORAL_TLS'],
  [/PermissionDenied|Unauthenticated|does not have (permission|valid authentication)/, 'TEMPORAL_API_KEY'],
  [/code: NotFound/, 'TEMPORAL_NAMESPACE'],
];

/**
 * Megabytes of a semi-space of V8's young generation, which has up to three, in the threads that the SDK runs workflows in. With V8's own
 * 16 MB a busy worker takes a hundred megabytes more, for the same CPU an order.
 */
const SEMI_SPACE_MB = 2;

readCommandLine('npm run worker', 'Run the workflows and activities of the orders.');
const config = fromEnvironmentAndProfile(PROGRAMS.worker);

const log = createLogger(config.LOG_LEVEL);
installTemporalRuntime(log);
const db = openDatabase(config.DATABASE_URL);
const sandbox = openDatabase(config.SANDBOX_DATABASE_URL ?? config.DATABASE_URL);
const stores = openStores(db);
const encryption = createEncryption(config, stores.orderKeys, { makesKeys: true });
const attempts = createAttemptLog(stores.attempts, log);
const clock = createServerClock();
const deps = {
  ...stores,
  clock,
  paymentCompany: createSandboxPaymentCompany(createPaymentBook(sandbox)),
  carrier: createSandboxCarrier(createParcelBook(sandbox)),
  onFailedAttempt: attempts.record,
  hash: encryption?.hash,
  checkApproval: config.APPROVAL_PUBLIC_KEYS && createApprovalCheck(config.APPROVAL_PUBLIC_KEYS),
  ...(config.FLAKY_CALL === 'on' ? { flakyCall: () => flaky_call() } : {}),
};

const { TEMPORAL_ADDRESS: address, TEMPORAL_NAMESPACE: namespace, WORKER_QUEUES: queues } = config;
const connection = await NativeConnection.connect({ address, ...config.temporal }).catch(exitIfUnreachable);
const client = createTemporalClient(connection, namespace, encryption);
const bundle = await workflowBundle();
const activities = createActivities({ ...deps, ...createRuns(client) });
const { TEMPORAL_DEPLOYMENT_NAME: deploymentName, TEMPORAL_WORKER_BUILD_ID: buildId } = config;
const version = buildId === undefined ? undefined : { deploymentName, buildId };
const latencies = createStartLatencies(clock);
const interceptors = { activity: [latencies.interceptor] };
// For the threads started from here on; the main thread has its size.
setFlagsFromString(`--max-semi-space-size=${SEMI_SPACE_MB}`);
const workers = await Promise.all(
  queues.map((queue) =>
    createWorker(queue, {
      connection,
      namespace,
      activities,
      workflowBundle: bundle,
      interceptors,
      version,
      encryption,
    }),
  ),
).catch(exitIfUnreachable);
const { HEALTH_PORT: port } = config;
if (port !== undefined)
  await serveHealth({
    port,
    serves: () => workers.every((worker) => worker.getState() === 'RUNNING'),
    checks: { database: () => db.ping(), temporal: () => client.workflowService.describeNamespace({ namespace }) },
  }).catch(({ code, message }: NodeJS.ErrnoException) =>
    exit(code === 'EADDRINUSE' ? `HEALTH_PORT ${port} is already in use` : `HEALTH_PORT ${port}: ${message}`),
  );
giveBackStartMemory();
const running = Promise.all(workers.map((worker) => worker.run()));

const stopping = new AbortController();
const { signal } = stopping;
const jobs = [
  measureCapacity({ capacity: stores.capacity, latencies, log, signal }),
  ...(queues.includes('orders') ? [sweep({ client, ...stores, log, signal })] : []),
  version
    ? warnWithoutCurrentVersion({ client, version, address, log, signal })
    : warnOfCurrentVersion({ client, taskQueues: queues.map((queue) => QUEUES[queue]), address, log, signal }),
];

// Also called by further signals, which must not end the process before its work.
const stop = () => {
  stopping.abort();
  for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
};
process.on('SIGTERM', stop).on('SIGINT', stop);
log.info(
  { version: manifest.version, build_id: buildId, queues, address, namespace, faults: config.FLAKY_CALL },
  'worker started',
);
process.send?.('ready');
const warn = (line: string | undefined) => line && log.warn(line);
void checkDatabase(db, 'DATABASE_URL', config.DATABASE_URL).then(warn);
const { SANDBOX_DATABASE_URL: url } = config;
if (url) void checkDatabase(sandbox, 'SANDBOX_DATABASE_URL', url, Object.values(sandboxSchema)).then(warn);

await running;
await Promise.all(jobs);
await attempts.flush();
await Promise.all([connection.close(), db.close(), sandbox.close()]);
// Abandoned calls that hang, as flaky_call does for minutes, would keep the process alive.
process.exit(0);

/** Ends the process when Temporal can't be reached at its start, or refuses; names the variable that is likely to be wrong. */
async function exitIfUnreachable(error: unknown): Promise<never> {
  if (!(error instanceof TransportError)) throw error;
  const [, named] = CAUSES.find(([words]) => words.test(error.message)) ?? [];
  const isCutOff =
    config.temporal.tls && /connection ?(reset|aborted|closed)|broken ?pipe|not ?connected/i.test(error.message);
  const likely = named ?? (isCutOff ? await variableOfCutOff() : 'TEMPORAL_ADDRESS');
  const variable = likely === 'TEMPORAL_API_KEY' ? variableOfProof(config.temporal) : likely;
  const reason = error.message.replace(/\s+/g, ' ').slice(0, 300);
  exit(`${variable} (${address}, namespace ${namespace}): ${reason}`);
}

/** Names the variable that says who this worker is. */
function variableOfProof({ apiKey, tls }: TemporalOptions): string {
  const isCertified = typeof tls === 'object' && tls?.clientCertPair !== undefined;
  return isCertified && apiKey === undefined ? 'TEMPORAL_TLS_CLIENT_CERT_PATH' : 'TEMPORAL_API_KEY';
}

/**
 * Names the variable that is likely to be wrong when a connection with TLS was closed without a reason: a server that refuses the
 * certificate may close it before its alert is read, and one without TLS closes it too.
 */
async function variableOfCutOff(): Promise<string> {
  const { hostname, port } = new URL(`tcp://${address}`);
  const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ['h2'] });
  const answer = await once(socket, 'secureConnect', { signal: AbortSignal.timeout(5000) }).catch((error) => error);
  socket.destroy();
  // Up to TLS 1.2 a server checks the certificate before the connection stands, and sends an alert.
  const speaksTls = Array.isArray(answer) || /_ALERT_/.test(answer.code);
  return speaksTls ? 'TEMPORAL_TLS_CLIENT_CERT_PATH' : 'TEMPORAL_TLS';
}

function exit(line: string): never {
  process.stderr.write(`${line}\n`);
  process.exit(1);
}
