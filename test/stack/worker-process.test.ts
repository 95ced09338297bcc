/** The worker as a process: its health port, its log, and how it stops. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { SHIPPING_QUEUE, WORKFLOW_TASK_TIMEOUT_MS } from '@trellis/contracts/temporal';
import { freePort } from '@trellis/local/stack/ports';
import { createConnection } from 'mysql2/promise';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';
import { need } from '../servers.ts';
import { openTestbed } from '../workflow-fixture.ts';

const { TEMPORAL_ADDRESS } = await need('database', 'temporal');
const bed = await openTestbed({ queues: [], clock: 'real' });
afterAll(() => bed.close());
const namespace = bed.env.namespace ?? '';

/** Starts a worker; `ended` resolves with its log, as objects, and its exit code. */
async function start(variables: NodeJS.ProcessEnv) {
  const port = await freePort();
  const script = fileURLToPath(new URL('../../workers/main.ts', import.meta.url));
  const servers = { DATABASE_URL: bed.databaseUrl, TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE: namespace };
  const child = spawn(process.execPath, [script], {
    env: { ...process.env, ...servers, HEALTH_PORT: `${port}`, FLAKY_CALL: 'off', ...variables },
  });
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (chunk) => (stdout += chunk));
  const log = (): Record<string, unknown>[] => stdout.match(/^\{.*\}$/gm)?.map((line) => JSON.parse(line)) ?? [];
  const ended = Promise.all([text(child.stderr), once(child, 'close')]).then(([stderr, [code]]) => {
    return { code, stderr, log: log() };
  });
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return { status: response.status, body: await response.json() };
  };
  const started = () => eventually(() => get('/livez').catch(() => false), 30_000);
  return { child, port, log, ended, get, started };
}

test('it is ready while it polls and its servers answer, and drains on SIGTERM, however often that comes', async () => {
  const { child, get, started, ended } = await start({});
  await started();
  await eventually(async () => (await get('/readyz')).status === 200);
  const orders = await Promise.all(Array.from({ length: 5 }, () => bed.placeApproved(anOrder())));
  child.kill('SIGTERM');
  child.kill('SIGTERM');
  const { code, log } = await ended;
  expect(code).toBe(0);
  expect(log.find(({ msg }) => msg === 'worker started')).toMatchObject({
    version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    queues: ['orders', 'shipping'],
    address: TEMPORAL_ADDRESS,
    namespace,
  });
  const stop = await bed.startWorkers('orders', 'shipping');
  expect(await Promise.all(orders.map((order) => order.end()))).toEqual(orders.map(() => 'shipped'));
  await stop();
  expect(await bed.violations()).toEqual([]);
}, 60_000);

test('a signal is delivered whose workflow task follows one that a frozen worker began too late', async () => {
  const [first, given] = [await start({}), anOrder()];
  await first.started();
  const holder = await createConnection(bed.databaseUrl);
  onTestFinished(() => holder.end());
  // While the order's row can't be inserted, the workflow task stays open for its first activity.
  await holder.query('BEGIN');
  await holder.query(
    "INSERT INTO orders (id, state, step, workflow_id, run_id) VALUES (?, 'received', 'init', '', '')",
    [given.order_id],
  );
  const order = await bed.place(given, { workflowTaskTimeout: WORKFLOW_TASK_TIMEOUT_MS.exercise });
  const task = async () => (await order.handle.describe()).raw.pendingWorkflowTask;
  const isStarted = async (attempt: number) => {
    const { attempt: current, startedTime } = (await task()) ?? {};
    return current === attempt && startedTime !== null && startedTime !== undefined;
  };
  await eventually(() => isStarted(1));
  const second = await start({});
  await second.started();
  // It learns Temporal's time from its tasks.
  const hasWorked = () => second.log().some(({ msg }) => msg === 'step');
  while (!hasWorked()) await (await bed.placeApproved()).end();
  second.child.kill('SIGSTOP');
  first.child.kill('SIGKILL');
  // The server gives the frozen worker the second attempt.
  await eventually(() => isStarted(2));
  await sleep(WORKFLOW_TASK_TIMEOUT_MS.exercise - 1_000);
  second.child.kill('SIGCONT');
  await order.signal('cancel', 'in time');
  await eventually(async () => (await task())?.attempt === 1 && isStarted(1));
  await holder.query('ROLLBACK');
  expect(await order.end()).toBe('canceled');
  second.child.kill('SIGTERM');
  await second.ended;
  expect(await bed.violations()).toEqual([]);
}, 60_000);

test('with one watchdog for all its calls into workflows it ships orders', async () => {
  const preload = new URL('../../workers/one-watchdog.ts', import.meta.url);
  const { child, started, ended } = await start({ NODE_OPTIONS: `--import ${preload}` });
  await started();
  const order = await bed.placeApproved(anOrder());
  expect(await order.end()).toBe('shipped');
  child.kill('SIGTERM');
  expect(await ended).toMatchObject({ code: 0, stderr: '' });
}, 60_000);

test('without its database, and while its version is not current, it warns of both', async () => {
  const { child, port, get, started, ended } = await start({
    DATABASE_URL: 'mysql://root:secret@127.0.0.1:1/x',
    TEMPORAL_WORKER_BUILD_ID: 'b-1',
  });
  await started();
  expect(await get('/readyz')).toEqual({ status: 503, body: { ok: false, unreachable: ['database'] } });
  expect((await get('/elsewhere')).status).toBe(404);
  const beside = await start({ HEALTH_PORT: `${port}` });
  expect(await beside.ended).toMatchObject({ code: 1, stderr: `HEALTH_PORT ${port} is already in use\n` });
  const { connection } = bed.env;
  const deploymentName = 'trellis-orders';
  await eventually(() =>
    connection.workflowService.describeWorkerDeployment({ namespace, deploymentName }).catch(() => false),
  );
  // The watch looks again within two seconds until the deployment exists.
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  child.kill('SIGTERM');
  const { log } = await ended;
  const warnings = log.filter(({ level }) => level === 40);
  expect(warnings).toContainEqual(
    expect.objectContaining({ msg: expect.stringMatching(/^DATABASE_URL \(127\.0\.0\.1:1\): .*ECONNREFUSED/) }),
  );
  expect(warnings).toContainEqual(
    expect.objectContaining({
      command: `temporal worker deployment set-current-version --address ${TEMPORAL_ADDRESS} --namespace ${namespace} --deployment-name ${deploymentName} --build-id b-1 --yes`,
    }),
  );
  expect(JSON.stringify(log)).not.toContain('secret');
}, 60_000);

test('without a build id, while a version is current for one of its queues, it says that it receives no new order', async () => {
  const [deploymentName, buildId] = ['shop-workers', 'b-2'];
  const { workflowService } = bed.env.connection;
  const versioned = await start({
    TEMPORAL_DEPLOYMENT_NAME: deploymentName,
    TEMPORAL_WORKER_BUILD_ID: buildId,
    WORKER_QUEUES: 'shipping',
  });
  const setCurrent = (id: string) =>
    workflowService
      .setWorkerDeploymentCurrentVersion({ namespace, deploymentName, buildId: id, ignoreMissingTaskQueues: true })
      .catch(() => false as const);
  await eventually(() => setCurrent(buildId), 30_000);
  const taskQueue = { name: SHIPPING_QUEUE };
  await eventually(async () => {
    const { versioningInfo } = await workflowService.describeTaskQueue({ namespace, taskQueue });
    return versioningInfo?.currentDeploymentVersion?.buildId === buildId;
  });
  const unversioned = await start({});
  const { command } = await eventually(
    async () => unversioned.log().find(({ current_build_id: id }) => id === buildId),
    30_000,
  );
  expect(command).toBe(
    `temporal worker deployment set-current-version --address ${TEMPORAL_ADDRESS} --namespace ${namespace} --deployment-name ${deploymentName} --unversioned --yes`,
  );
  for (const { child } of [versioned, unversioned]) child.kill('SIGTERM');
  expect(await Promise.all([versioned.ended, unversioned.ended])).toMatchObject([{ code: 0 }, { code: 0 }]);
}, 60_000);
