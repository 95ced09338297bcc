/** What can befall a running stack: each fault strikes, lasts a while, and is over. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import type { Service } from './processes.ts';
import type { SqlProxy } from './sql-proxy.ts';
import type { Stack } from './stack.ts';

const DEPLOYMENT = 'trellis-orders';

/** What faults strike. The worker and the API reach SQL through `sql`, the simulated companies their books through `companies`. */
export interface Victims {
  stack: Stack;
  sql: SqlProxy;
  companies: SqlProxy;
  /** A number from 0 up to 1. */
  random: () => number;
  /** Resolves once every order that was received before a moment, in epoch milliseconds, has ended. */
  settled: (before: number) => Promise<unknown>;
}

export interface Faults {
  /** By name; each resolves when the fault is over and everything runs again. */
  readonly byName: Record<string, () => Promise<void>>;
  /** The processes that run now. */
  running(): Service[];
}

/** Readies the faults of a stack whose worker is version 1 of its deployment, and makes that the current one. */
export async function readyFaults({ stack, sql, companies, random, settled }: Victims): Promise<Faults> {
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

  /** Kills processes; they come back after a while. */
  const killed =
    (...names: string[]) =>
    async () => {
      await Promise.all(names.map((name) => strike(name, 'SIGKILL')));
      await between(500, 4_000);
      await Promise.all(names.map(startAgain));
    };
  /** Stops processes in the middle of whatever they do; they go on after a while. */
  const frozen =
    (...names: string[]) =>
    async () => {
      await Promise.all(names.map((name) => strike(name, 'SIGSTOP')));
      await between(1_000, 8_000);
      await Promise.all(names.map((name) => strike(name, 'SIGCONT')));
    };

  async function strike(name: string, signal: NodeJS.Signals): Promise<void> {
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
      async 'commits done, answers lost'() {
        const before = sql.lost;
        sql.loseCommits(10);
        while (sql.lost < before + 10) await sleep(50);
      },
      async 'companies’ answers lost'() {
        const before = companies.lost;
        companies.loseCommits(5);
        while (companies.lost < before + 5) await sleep(50);
      },
      async 'companies answer late'() {
        companies.delayAnswers(1_500);
        await between(3_000, 8_000);
        companies.delayAnswers(0);
      },
      async 'a new version of the worker beside the old one'() {
        version += 1;
        const old = running.get('worker');
        const name = `worker-${version}`;
        const young = await stack.startWorker(name, buildId(version));
        running.set(name, young);
        await makeCurrent(stack, version);
        // An order ends under the version it began with, so the old one stays until its orders have.
        await settled(Date.now() + 2_000);
        await old?.stop();
        running.delete(name);
        running.set('worker', young);
      },
    },
    running: () => [...running.values()],
  };
}

/** The environment of a worker of this version. */
export const buildId = (version: number) => ({ TEMPORAL_WORKER_BUILD_ID: `${version}` });

/** Sends new orders to a version of the worker, once the server has heard of it. */
async function makeCurrent({ addresses }: Stack, version: number): Promise<void> {
  const connection = await Connection.connect({ address: addresses.TEMPORAL_ADDRESS });
  try {
    for (let tries = 0; ; tries += 1) {
      try {
        await connection.workflowService.setWorkerDeploymentCurrentVersion({
          namespace: 'default',
          deploymentName: DEPLOYMENT,
          buildId: `${version}`,
        });
        return;
      } catch (error) {
        if (tries === 50) throw error;
        await sleep(200);
      }
    }
  } finally {
    await connection.close();
  }
}
