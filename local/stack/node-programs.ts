/** The programs of this repository that run on Node, each started separately, as a service. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { ROOT } from './folder.ts';
import { HOST } from './ports.ts';
import { type Service, startProcess } from './processes.ts';

/** Values that a `.env` made for other servers must not change. An empty one counts as not set. */
const PINNED = {
  HOST,
  TEMPORAL_NAMESPACE: 'default',
  TEMPORAL_API_KEY: '',
  TEMPORAL_TLS: '',
  TEMPORAL_TLS_CLIENT_CERT_PATH: '',
  TEMPORAL_TLS_CLIENT_CERT_DATA: '',
  TEMPORAL_TLS_CLIENT_KEY_PATH: '',
  TEMPORAL_TLS_CLIENT_KEY_DATA: '',
  TEMPORAL_TLS_SERVER_CA_CERT_PATH: '',
  TEMPORAL_TLS_SERVER_CA_CERT_DATA: '',
  TEMPORAL_TLS_SERVER_NAME: '',
  TEMPORAL_CONFIG_FILE: '',
  TEMPORAL_PROFILE: '',
  TEMPORAL_WORKER_BUILD_ID: '',
  WORKER_QUEUES: 'orders,shipping',
  HEALTH_PORT: '',
  SANDBOX_DATABASE_URL: '',
};

/** The variables that a program started from here reads: those of the environment, and those of `.env` that are not set there. */
export async function programVariables(): Promise<NodeJS.ProcessEnv> {
  return { ...parseEnv(await readFile(join(ROOT, '.env'), 'utf8').catch(() => '')), ...process.env };
}

interface Options {
  /** Holds the program's log and pid. */
  folder: string;
  /** Name of the service and its log; one folder needs a different name for each. */
  name?: string;
  /** On top of this process's environment: at least the addresses of the servers, DATABASE_URL and TEMPORAL_ADDRESS. */
  env: NodeJS.ProcessEnv;
}

/** Starts a worker. Resolves once it polls; on failure rejects with the end of its log. */
export function startWorker({ name = 'worker', ...options }: Options): Promise<Service> {
  return startNode('workers/main.ts', { ...options, name });
}

/** Starts the API on 127.0.0.1:port. Resolves once it listens; on failure rejects with the end of its log. */
export function startApi({ name = 'api', port, folder, env }: Options & { port: number }): Promise<Service> {
  return startNode('api/node.ts', { folder, name, env: { ...env, PORT: `${port}` } });
}

/**
 * Starts the gateway that speaks PlanetScale's HTTP protocol on 127.0.0.1:port, in front of the server of a `mysql://`
 * URL. Resolves once it listens; on failure rejects with the end of its log.
 */
export function startGateway(options: {
  folder: string;
  name?: string;
  port: number;
  databaseUrl: string;
}): Promise<Service> {
  const { folder, name = 'gateway', port, databaseUrl } = options;
  const env = { DATABASE_URL: databaseUrl, PORT: `${port}` };
  return startNode('local/stack/planetscale-gateway.ts', { folder, name, env });
}

/** The URL at which the gateway serves a database of its server: the user name of a call selects the database. */
export function overHttp(databaseUrl: string, gatewayPort: number): string {
  return `http://${new URL(databaseUrl).pathname.slice(1)}:local@${HOST}:${gatewayPort}`;
}

function startNode(script: string, { folder, name, env }: Options & { name: string }): Promise<Service> {
  return startProcess(folder, {
    name,
    command: process.execPath,
    args: [join(ROOT, script)],
    env: { ...process.env, ...PINNED, ...env },
    ipc: true,
  });
}
