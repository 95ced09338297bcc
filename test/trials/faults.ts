/** Faults for a running stack: each one breaks something for a while and then repairs it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { STACK_ACCOUNTS } from '@trellis/local/stack/accounts';
import type { Service } from '@trellis/local/stack/processes';
import type { Stack } from '@trellis/local/stack/stack';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import pRetry from 'p-retry';
import { killMigration } from './killed-migration.ts';
import type { SqlProxy } from './sql-proxy.ts';

const DEPLOYMENT = 'trellis-orders';
const LOSING_WITHIN_MS = 10_000;
const ROUTED_WITHIN_MS = 60_000;
/** A worker's clock is wrong by this much, from behind to ahead. */
const CLOCK_SHIFT_MS: [number, number] = [-60_000, 13_000];
const SHIFTED_CLOCK = new URL('shifted-clock.ts', import.meta.url).href;

/** What the faults act on. Worker and API connect to SQL through `sql`, the simulated companies through `companies`. */
export interface FaultTargets {
  stack: Stack;
  sql: SqlProxy;
  companies: SqlProxy;
  /** A number from 0 up to 1. */
  random: () => number;
  /** Takes a guarantee that a fault itself has found broken. */
  broken: (line: string) => void;
  /** Sends one order thousands of commands, and approves it. */
  flood: () => Promise<void>;
  /** Resolves once every order received before a moment, in epoch milliseconds, has ended, or after a time limit. */
  settled: (before: number) => Promise<unknown>;
}

export interface Faults {
  /** By name; each injects the fault and resolves when it is over and everything runs again. */
  readonly byName: Record<string, () => Promise<void>>;
  /** The processes that run now. */
  running(): Service[];
}

/** Prepares the faults of a stack whose worker has build id 1, and makes that the current version. */
export async function prepareFaults({
  stack,
  sql,
  companies,
  random,
  broken,
  flood,
  settled,
}: FaultTargets): Promise<Faults> {
  const running = new Map(stack.services.map((service) => [service.name, service]));
  let version = 1;
  await makeCurrent(stack, version);

  const between = (from: number, to: number) => sleep(from + random() * (to - from));
  const startAgain = async (name: string) => {
    const service = await (name === 'worker'
      ? stack.startWorker('worker', buildId(version))
      : stack.startAgain(name as 'sql' | 'temporal' | 'api'));
    running.set(name, service);
  };

  /** Kills processes, and starts them again after a while. */
  const killed =
    (...names: string[]) =>
    async () => {
      await Promise.all(names.map((name) => sendSignal(name, 'SIGKILL')));
      await between(500, 4_000);
      await Promise.all(names.map(startAgain));
    };
  /** Suspends processes, and resumes them after a while. */
  const frozen =
    (...names: string[]) =>
    async () => {
      await Promise.all(names.map((name) => sendSignal(name, 'SIGSTOP')));
      await between(1_000, 8_000);
      await Promise.all(names.map((name) => sendSignal(name, 'SIGCONT')));
    };

  async function sendSignal(name: string, signal: NodeJS.Signals): Promise<void> {
    const service = running.get(name);
    if (!service) throw new Error(`${name} doesn't run`);
    process.kill(service.pid, signal);
    if (signal === 'SIGKILL') await service.exited;
  }

  return {
    byName: {
      'worker killed': killed('worker'),
      'worker frozen': frozen('worker'),
      'API killed': killed('api'),
      'API frozen': frozen('api'),
      'worker and API killed': killed('worker', 'api'),
      'worker and API frozen': frozen('worker', 'api'),
      'SQL killed': killed('sql'),
      'SQL frozen': frozen('sql'),
      'Temporal killed': killed('temporal'),
      'Temporal frozen': frozen('temporal'),
      'commits done, answers lost': () => loseCommits(sql, 10),
      'companies’ answers lost': () => loseCommits(companies, 5),
      async 'companies answer late'() {
        companies.delayAnswers(1_500);
        await between(3_000, 8_000);
        companies.delayAnswers(0);
      },
      async 'SQL connections forgotten'() {
        const url = stack.addresses.DATABASE_URL;
        const open = await applicationConnections(url);
        sql.forget();
        companies.forget();
        // Until the server's keepalive finds them dead, their transactions hold locks.
        await between(500, 2_500);
        await kill(url, open);
      },
      async 'SQL read-only'() {
        await setReadOnly(stack.addresses.DATABASE_URL, true);
        await between(1_000, 4_000);
        await setReadOnly(stack.addresses.DATABASE_URL, false);
      },
      async 'a worker whose clock is wrong beside the other'() {
        const [from, to] = CLOCK_SHIFT_MS;
        const shifted = await stack.startWorker('worker-shifted', {
          ...buildId(version),
          NODE_OPTIONS: `--import=${SHIFTED_CLOCK}`,
          CLOCK_SHIFT_MS: `${Math.round(from + random() * (to - from))}`,
        });
        running.set('worker-shifted', shifted);
        await between(3_000, 6_000);
        running.delete('worker-shifted');
        await shifted.stop();
      },
      async 'a migration killed and run again'() {
        for (const line of await killMigration(stack.addresses.DATABASE_URL, random)) broken(line);
      },
      async 'an order flooded with commands, its worker killed'() {
        const flooding = flood();
        await between(2_000, 5_000);
        await killed('worker')();
        await flooding;
      },
      async 'a new version of the worker beside the old one'() {
        version += 1;
        const old = running.get('worker');
        const name = `worker-${version}`;
        const next = await stack.startWorker(name, buildId(version));
        running.set(name, next);
        await makeCurrent(stack, version);
        // An order ends under the version it began with, so the old worker stays until its orders have ended.
        await settled(Date.now() + 2_000);
        await old?.stop();
        running.delete(name);
        running.set('worker', next);
      },
    },
    running: () => [...running.values()],
  };
}

/** Makes the server refuse writes, as after a failover, to every account without the right to ignore that. */
async function setReadOnly(url: string, on: boolean): Promise<void> {
  const server = await createConnection(url);
  await server.query(`SET GLOBAL read_only = ${on ? 'ON' : 'OFF'}`);
  await server.end();
}

/** The ids of the connections that worker and API have open on the server. */
async function applicationConnections(url: string): Promise<number[]> {
  const server = await createConnection(url);
  const [rows] = await server.query<RowDataPacket[]>('SHOW PROCESSLIST');
  await server.end();
  return rows.filter(({ User }) => Object.values(STACK_ACCOUNTS).includes(User)).map(({ Id }) => Number(Id));
}

/** Closes connections on the server's side, of those that are still open. */
async function kill(url: string, connections: number[]): Promise<void> {
  const server = await createConnection(url);
  for (const id of connections) await server.query(`KILL ${id}`).catch(() => undefined);
  await server.end();
}

/** Loses the answers of `count` commits, or of fewer when none follow. */
async function loseCommits(proxy: SqlProxy, count: number): Promise<void> {
  const end = Date.now() + LOSING_WITHIN_MS;
  const before = proxy.lost;
  proxy.loseCommits(count);
  while (proxy.lost < before + count && Date.now() < end) await sleep(50);
  proxy.loseCommits(0);
}

/** The environment of a worker of this version. */
export const buildId = (version: number) => ({ TEMPORAL_WORKER_BUILD_ID: `${version}` });

/**
 * Makes a version of the worker the current one, and waits until every part of the server routes to it: if the old version
 * stopped before that, new orders would have no worker for a minute. The server does not always report the end of that;
 * then this returns after ROUTED_WITHIN_MS.
 */
async function makeCurrent({ addresses }: Stack, version: number): Promise<void> {
  const connection = await Connection.connect({ address: addresses.TEMPORAL_ADDRESS });
  const { workflowService } = connection;
  const deployment = { namespace: 'default', deploymentName: DEPLOYMENT };
  try {
    // The server registers a version only some time after its worker has started.
    const becomeCurrent = () =>
      workflowService.setWorkerDeploymentCurrentVersion({ ...deployment, buildId: `${version}` });
    await pRetry(becomeCurrent, { retries: 150, minTimeout: 200, factor: 1 });
    const routed = async () => {
      const { workerDeploymentInfo } = await workflowService.describeWorkerDeployment(deployment);
      if (workerDeploymentInfo?.routingConfigUpdateState !== ROUTED)
        throw new Error('the routing has not reached every part of the server');
    };
    await pRetry(routed, { retries: ROUTED_WITHIN_MS / 200, minTimeout: 200, factor: 1 }).catch(() => undefined);
  } finally {
    await connection.close();
  }
}

/** ROUTING_CONFIG_UPDATE_STATE_COMPLETED */
const ROUTED = 2;
