/** The whole product on one machine: SQL and Temporal servers, migrations, worker, API. */
import { randomBytes, randomInt } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { migrate } from '@trellis/drizzle/migrate';
import getPort, { portNumbers } from 'get-port';
import { createConnection } from 'mysql2/promise';
import { startDatabase } from './database-server.ts';
import { startEdge } from './edge-server.ts';
import { holdLock, reap, releaseLock, type Service, startProcess } from './processes.ts';
import { startTemporal } from './temporal-server.ts';

export type Say = (line: string) => void;

export interface StackOptions {
  /** Holds the data, logs, pids and the `env` file. */
  folder: string;
  /** Keep the documented ports where they are free, and the data across restarts. */
  persistent: boolean;
  /** Runs the API on the edge runtime too. */
  edge?: boolean;
  /** Temporal keeps its data in a file, so that it can be killed and started again; as it does when `persistent`. */
  durable?: boolean;
  /** Environment of worker and API on top of ours, perhaps made from where the servers are. */
  env?: NodeJS.ProcessEnv | ((addresses: Addresses) => Promise<NodeJS.ProcessEnv>);
  say: Say;
}

/** Where the stack can be reached; the same as in the folder's `env` file. */
export interface Addresses {
  API_URL: string;
  TEMPORAL_ADDRESS: string;
  TEMPORAL_HTTP_URL: string;
  TEMPORAL_UI_URL: string;
  TEMPORAL_METRICS_URL: string;
  DATABASE_URL: string;
  /** The same database over HTTP, of a stack that is `persistent` or has an edge. */
  PLANETSCALE_URL?: string;
  /** The API on the edge runtime. */
  EDGE_URL?: string;
}

export interface Stack {
  readonly addresses: Addresses;
  /** Everything that runs, workers started later too. */
  readonly services: readonly Service[];
  readonly worker: Service;
  /** Starts another worker beside whatever runs, under the same settings and those given. */
  startWorker(name: string, env?: NodeJS.ProcessEnv): Promise<Service>;
  /** Starts again what has died, on its port and its data. */
  startAgain(name: 'sql' | 'temporal' | 'api'): Promise<Service>;
  /** Stops everything, drained within seconds. Safe to call twice. */
  stop(): Promise<void>;
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const LOCAL = join(ROOT, '.local');

const PORTS = {
  api: 8000,
  grpc: 7233,
  http: 7243,
  ui: 8233,
  metrics: 9233,
  sql: 3306,
  gateway: 3406,
  edge: 8787,
} as const;
const HOST = '127.0.0.1';
/** What a `.env` made for other servers must not change here. */
const PINNED = { HOST, TEMPORAL_NAMESPACE: 'default', WORKER_QUEUES: 'orders,shipping', SANDBOX_DATABASE_URL: '' };

/**
 * Starts everything and resolves once the API answers; the `env` file is complete before that. The caller holds the
 * folder's lock. On failure nothing is left running.
 */
export async function startStack({
  folder,
  persistent,
  durable = persistent,
  edge = false,
  env = {},
  say,
}: StackOptions): Promise<Stack> {
  await mkdir(folder, { recursive: true });
  for (const name of await reap(folder)) say(`stopped ${name}, left over from an earlier start`);
  const services: Service[] = [];
  const cleanUp: (() => Promise<void>)[] = [];
  const stop = async () => {
    const isServer = (service: Service) => ['temporal', 'sql'].includes(service.name);
    await Promise.all(services.filter((service) => !isServer(service)).map((service) => service.stop()));
    await Promise.all(cleanUp.splice(0).map((work) => work()));
    await Promise.all(services.filter(isServer).map((service) => service.stop()));
  };
  const started = async <S extends Service>(starting: Promise<S>): Promise<S> => {
    const service = await starting;
    services.push(service);
    return service;
  };

  try {
    const ports = await choosePorts(persistent, say);
    const temporalServer = () => startTemporal({ folder, ports, persistent: durable, say });
    // Both are waited for even if one fails, so that `stop` knows of the other.
    const [database, temporal] = await Promise.allSettled([
      openServer(folder, persistent, ports.sql, say, started, cleanUp),
      started(temporalServer()),
    ]);
    if (database.status === 'rejected') throw database.reason;
    if (temporal.status === 'rejected') throw temporal.reason;
    await migrate(database.value);

    const addresses: Addresses = {
      API_URL: `http://${HOST}:${ports.api}`,
      TEMPORAL_ADDRESS: `${HOST}:${ports.grpc}`,
      TEMPORAL_HTTP_URL: `http://${HOST}:${ports.http}`,
      TEMPORAL_UI_URL: `http://${HOST}:${ports.ui}`,
      TEMPORAL_METRICS_URL: `http://${HOST}:${ports.metrics}/metrics`,
      DATABASE_URL: database.value,
      ...((persistent || edge) && { PLANETSCALE_URL: overHttp(database.value, ports.gateway) }),
      ...(edge && { EDGE_URL: `http://${HOST}:${ports.edge}` }),
    };
    const { DATABASE_URL, PLANETSCALE_URL, TEMPORAL_ADDRESS, TEMPORAL_HTTP_URL } = addresses;
    const settings: NodeJS.ProcessEnv = {
      FLAKY_CALL: 'on',
      ...process.env,
      ...(persistent ? {} : { POLICY: 'exercise' }),
      ...PINNED,
      PORT: `${ports.api}`,
      DATABASE_URL,
      TEMPORAL_ADDRESS,
      ...(typeof env === 'function' ? await env(addresses) : env),
    };
    const node = (name: string, script: string, more?: NodeJS.ProcessEnv) =>
      started(
        startProcess(folder, {
          name,
          command: process.execPath,
          args: [join(ROOT, script)],
          env: { ...settings, ...more },
          ipc: true,
        }),
      );
    const startWorker = (name: string, more?: NodeJS.ProcessEnv) => node(name, 'workers/main.ts', more);
    const startAgain = (name: 'sql' | 'temporal' | 'api') => {
      if (name === 'api') return node('api', 'api/node.ts');
      return started(name === 'sql' ? startDatabase({ folder, port: ports.sql, say }) : temporalServer());
    };

    const worker = await startWorker('worker');
    const lines = Object.entries(addresses).map(([key, value]) => `${key}=${value}\n`);
    await writeFile(join(folder, 'env'), lines.join(''));
    if (PLANETSCALE_URL)
      await node('gateway', 'local/stack/planetscale-gateway.ts', { DATABASE_URL, PORT: `${ports.gateway}` });
    await node('api', 'api/node.ts');
    if (edge && PLANETSCALE_URL) {
      const servers = { temporal: TEMPORAL_HTTP_URL, database: PLANETSCALE_URL };
      await started(startEdge({ folder, port: ports.edge, ...servers, settings }));
    }
    return { addresses, services, worker, startWorker, startAgain, stop };
  } catch (error) {
    await stop();
    await reap(folder);
    throw error;
  }
}

/**
 * A folder for a stack that nobody wants to keep, and what to call in the end. What killed predecessors left, processes
 * included, is removed first.
 */
export async function throwAwayFolder(say: Say): Promise<{ folder: string; remove(): Promise<void> }> {
  const parent = join(LOCAL, 'throw-away');
  await mkdir(parent, { recursive: true });
  for (const name of await readdir(parent)) {
    const left = join(parent, name);
    if (!(await holdLock(left, 'stack'))) continue;
    for (const service of await reap(left)) say(`stopped ${service}, left over from an earlier run`);
    await releaseLock(left, 'stack');
    await rm(left, { recursive: true, force: true });
  }
  const folder = await mkdtemp(join(parent, 'stack-'));
  await holdLock(folder, 'stack');
  return {
    folder,
    async remove() {
      await releaseLock(folder, 'stack');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** PlanetScale's credentials belong to one database; so the gateway takes the user name for its name. */
export function overHttp(databaseUrl: string, gatewayPort: number): string {
  return `http://${new URL(databaseUrl).pathname.slice(1)}:local@${HOST}:${gatewayPort}`;
}

/**
 * A port that nobody listens on, the wanted one if it can be. Not one of those that systems give to whoever asks for any:
 * it may be given away between now and its use.
 */
export function freePort(wanted?: number): Promise<number> {
  const from = randomInt(10_000, 31_000);
  return getPort({ host: HOST, port: [...(wanted === undefined ? [] : [wanted]), ...portNumbers(from, from + 500)] });
}

type Ports = Record<keyof typeof PORTS, number>;

async function choosePorts(documented: boolean, say: Say): Promise<Ports> {
  const chosen: Partial<Ports> = {};
  for (const name of Object.keys(PORTS) as (keyof Ports)[]) {
    const wanted = name === 'api' && process.env.PORT ? Number(process.env.PORT) : PORTS[name];
    const port = await freePort(documented ? wanted : undefined);
    if (documented && port !== wanted) say(`port ${wanted} (${name}) is taken, using ${port}`);
    chosen[name] = port;
  }
  return chosen as Ports;
}

/** The database's URL: the one that is named, else one on a private server. A throw-away stack gets a database of its own. */
async function openServer(
  folder: string,
  persistent: boolean,
  port: number,
  say: Say,
  started: <S extends Service>(starting: Promise<S>) => Promise<S>,
  cleanUp: (() => Promise<void>)[],
): Promise<string> {
  const named = process.env.DATABASE_URL;
  if (named && !named.startsWith('mysql:'))
    throw new Error(
      'DATABASE_URL must start with mysql:// here: migrations and the gateway speak MySQL’s own protocol',
    );
  if (named && persistent) return named;
  const url = new URL(named ?? (await started(startDatabase({ folder, port, say }))).url);
  const server = url.href;
  const database = persistent ? 'trellis' : `trellis_${randomBytes(4).toString('hex')}`;
  await execute(server, `CREATE DATABASE IF NOT EXISTS ${database}`);
  if (named) cleanUp.push(() => execute(server, `DROP DATABASE ${database}`));
  url.pathname = `/${database}`;
  return url.href;
}

async function execute(url: string, statement: string): Promise<void> {
  const connection = await createConnection(url);
  await connection.query(statement).finally(() => connection.end());
}
