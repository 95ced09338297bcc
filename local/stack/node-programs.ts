/** The programs of this repository that run on Node, each started separately, as a service. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { SOURCES } from '@trellis/build/build';
import { ROOT } from './folder.ts';
import { HOST } from './ports.ts';
import { type Service, startProcess } from './processes.ts';

/** Values that a `.env` made for other servers must not change. An empty one counts as not set. */
const PINNED = {
  HOST,
  AUTH: 'off',
  WORKER_QUEUES: 'orders,shipping',
  HEALTH_PORT: '',
  SANDBOX_DATABASE_URL: '',
  APPROVAL_KEY: '',
  APPROVAL_PUBLIC_KEYS: '',
  ENCRYPTION_KEYS: '',
  ENCRYPT: '',
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
  /** A folder that `build` has filled; when absent, the sources run. */
  built?: string | undefined;
}

/** Starts a worker. Resolves once it polls; on failure rejects with the end of its log. */
export function startWorker({ name = 'worker', ...options }: Options): Promise<Service> {
  return startNode(fileOf('worker', options), { ...options, name });
}

/** Starts the API on 127.0.0.1:port. Resolves once it listens; on failure rejects with the end of its log. */
export function startApi({ name = 'api', port, env, ...options }: Options & { port: number }): Promise<Service> {
  return startNode(fileOf('api', options), { ...options, name, env: { ...env, PORT: `${port}` } });
}

/**
 * Starts the gateway that speaks PlanetScale's HTTP protocol at `url`, made by `gatewayUrl`, in front of the server of a
 * `mysql://` URL. Resolves once it listens; on failure rejects with the end of its log.
 */
export function startGateway(options: { folder: string; url: string; databaseUrl: string }): Promise<Service> {
  const { folder, url, databaseUrl } = options;
  const { port, password } = new URL(url);
  const env = { DATABASE_URL: databaseUrl, PORT: port, GATEWAY_PASSWORD: password };
  return startNode(join(ROOT, 'local/stack/planetscale-gateway.ts'), { folder, name: 'gateway', env });
}

/** The URL of a gateway on 127.0.0.1:port to the database of a `mysql://` URL, with a new password. */
export function gatewayUrl(databaseUrl: string, port: number): string {
  return atGateway(`http://any:${randomBytes(16).toString('hex')}@${HOST}:${port}`, databaseUrl);
}

/** The URL of the same gateway to another database of its server: the user name of a call selects the database. */
export function atGateway(url: string, databaseUrl: string): string {
  const other = new URL(url);
  other.username = new URL(databaseUrl).pathname.slice(1);
  return other.href.replace(/\/$/, '');
}

const fileOf = (program: keyof typeof SOURCES, { built }: Pick<Options, 'built'>): string =>
  built === undefined ? join(ROOT, SOURCES[program]) : join(built, `${program}.js`);

/** What concerns another Temporal, such as its namespace, certificates or a worker's build id, is hidden from the program. */
async function startNode(file: string, { folder, name, env }: Options & { name: string }): Promise<Service> {
  const ofTemporal = Object.keys(await programVariables()).filter((variable) => variable.startsWith('TEMPORAL_'));
  return startProcess(folder, {
    name,
    command: process.execPath,
    args: [file],
    env: { ...process.env, ...PINNED, ...Object.fromEntries(ofTemporal.map((variable) => [variable, ''])), ...env },
    ipc: true,
    // As Ctrl-C does in a terminal: on SIGTERM the API first keeps accepting for 2 s, for load balancers.
    stopSignal: 'SIGINT',
  });
}
