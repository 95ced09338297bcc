/** The whole product on one machine: SQL and Temporal servers, migrations, worker, API. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from '@trellis/build/build';
import { ConfigError } from '@trellis/contracts/config/variables';
import { migrate } from '@trellis/drizzle/migrate';
import { ReportedError } from '../options.ts';
import { accountsOn, type ProgramUrls, STACK_ACCOUNTS } from './accounts.ts';
import { callersOf, type Tokens, tokenVariables } from './callers.ts';
import { prepareDatabase, startDatabase } from './database-server.ts';
import { startEdge } from './edge-server.ts';
import { type EncryptionVariables, encryptionOf } from './encryption.ts';
import { PRIVATE_FILE, throwAwayFolder } from './folder.ts';
import { gatewayUrl, programVariables, startApi, startGateway, startWorker } from './node-programs.ts';
import { choosePorts, HOST, keepPorts } from './ports.ts';
import { reap, type Service } from './processes.ts';
import { prepareTemporal, startTemporal, type TemporalAddresses } from './temporal-server.ts';

export type Say = (line: string) => void;

export interface StackOptions {
  /** Holds the built programs, data, logs, pids and the `env` file. */
  folder: string;
  /** Keep the documented ports where they are free, and the data across restarts. */
  persistent: boolean;
  /** Run the API on the edge runtime too. */
  edge?: boolean;
  /** Keep Temporal's data in a file, so that its server can be killed and started again; default: `persistent`. */
  durable?: boolean;
  /** Environment of worker and API on top of this process's; a function gets the program, and its URL of the database. */
  env?: NodeJS.ProcessEnv | ((program: keyof ProgramUrls, databaseUrl: string) => Promise<NodeJS.ProcessEnv>);
  /** Prints a line for the user: about downloads, replaced ports, processes left over from an earlier start. */
  say: Say;
}

/** The stack's addresses; also written to the folder's `env` file while the stack runs. */
export interface Addresses extends TemporalAddresses {
  API_URL: string;
  /** For the owner of the database. Worker and API have accounts of their own, unless the user's DATABASE_URL names a server. */
  DATABASE_URL: string;
  /** The same database over HTTP with the API's account, of a stack that is `persistent` or has an edge. */
  PLANETSCALE_URL?: string;
  /** The API on the edge runtime. */
  EDGE_URL?: string;
}

export interface Stack {
  readonly addresses: Addresses;
  /** Whether the API asks for tokens. */
  readonly auth: 'on' | 'off';
  /** What callers of the API present, if it asks for tokens: its AUTH is `on`. */
  readonly tokens?: Tokens;
  /** How what Temporal stores is encrypted. */
  readonly encryption: EncryptionVariables;
  /** All services, including workers started later. */
  readonly services: readonly Service[];
  readonly worker: Service;
  /** Starts another worker with the stack's settings and `env` on top. */
  startWorker(name: string, env?: NodeJS.ProcessEnv): Promise<Service>;
  /** Restarts a service that has died, with the same port and data. */
  startAgain(name: 'sql' | 'temporal' | 'api'): Promise<Service>;
  /** Stops all services and removes the `env` file; takes seconds. Calling it twice is harmless. */
  stop(): Promise<void>;
}

/**
 * Starts everything and resolves once the API answers; the `env` file is complete before that. The caller holds the
 * folder's lock. On failure no process is left running, and a ReportedError says what is missing.
 */
export async function startStack({
  folder,
  persistent,
  durable = persistent,
  edge = false,
  env = {},
  say,
}: StackOptions): Promise<Stack> {
  const envFile = join(folder, 'env');
  await mkdir(folder, { recursive: true });
  await rm(envFile, { force: true });
  for (const name of await reap(folder)) say(`stopped ${name}, left over from an earlier start`);
  const gateway = persistent || edge;
  const services: Service[] = [];
  const cleanUp: (() => Promise<void>)[] = [];
  const stop = async () => {
    const isServer = (service: Service) => ['temporal', 'sql'].includes(service.name);
    await rm(envFile, { force: true });
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
    const uses = new Map([
      ['edge', edge],
      ['gateway', gateway],
      ['sql', !process.env.DATABASE_URL],
    ]);
    const used = (name: string) => uses.get(name) ?? true;
    const ports = await (persistent ? keepPorts({ folder, used, say }) : choosePorts());
    const sql = () => started(startDatabase({ folder, port: ports.sql, say }));
    // From the environment alone: a `.env` may name keys of other servers.
    const encryption = await encryptionOf(folder, process.env);
    const codec = encryption.ENCRYPTION_KEYS ? `http://${HOST}:${ports.api}/codec` : undefined;
    const temporal = () => started(startTemporal({ folder, ports, persistent: durable, codec, say }));
    const newTemporal = async (): Promise<TemporalAddresses> => {
      await temporal();
      return {
        TEMPORAL_ADDRESS: `${HOST}:${ports.grpc}`,
        TEMPORAL_HTTP_URL: `http://${HOST}:${ports.http}`,
        TEMPORAL_NAMESPACE: 'default',
        TEMPORAL_UI_URL: `http://${HOST}:${ports.ui}`,
        TEMPORAL_METRICS_URL: `http://${HOST}:${ports.metrics}/metrics`,
      };
    };
    const built = join(folder, 'dist');
    const preparing = prepareDatabase({ persistent, startServer: sql });
    // Ends this at once if it can't be used.
    if (process.env.DATABASE_URL) await preparing;
    // Wait for all even if one fails, so that `stop` stops the others.
    const [database, temporalServer, building] = await Promise.allSettled([
      preparing,
      prepareTemporal({ persistent, startServer: newTemporal }),
      build(built),
    ]);
    if (database.status === 'rejected') throw database.reason;
    cleanUp.push(database.value.drop);
    if (temporalServer.status === 'rejected') throw temporalServer.reason;
    if (building.status === 'rejected') throw building.reason;
    const { url } = database.value;
    const urls = await programUrls(url);

    const addresses: Addresses = {
      API_URL: `http://${HOST}:${ports.api}`,
      ...temporalServer.value,
      DATABASE_URL: url,
      ...(gateway && { PLANETSCALE_URL: gatewayUrl(url, ports.gateway) }),
      ...(edge && { EDGE_URL: `http://${HOST}:${ports.edge}` }),
    };
    const callers = await callersOf(folder, await programVariables());
    const { PLANETSCALE_URL, TEMPORAL_ADDRESS, TEMPORAL_HTTP_URL, TEMPORAL_NAMESPACE } = addresses;
    const settingsOf = async (program: keyof ProgramUrls): Promise<NodeJS.ProcessEnv> => ({
      FLAKY_CALL: process.env.FLAKY_CALL ?? 'on',
      ...(persistent ? {} : { POLICY: 'exercise' }),
      DATABASE_URL: urls[program],
      TEMPORAL_ADDRESS,
      TEMPORAL_NAMESPACE,
      TEMPORAL_UI_ORIGIN: addresses.TEMPORAL_UI_URL,
      ...callers.settings,
      ...encryption,
      ...(typeof env === 'function' ? await env(program, urls[program]) : env),
    });
    const [ofWorker, ofApi] = [await settingsOf('worker'), await settingsOf('api')];
    const worker = (name: string, more?: NodeJS.ProcessEnv) =>
      started(startWorker({ folder, built, name, env: { ...ofWorker, ...more } }));
    const api = () => started(startApi({ folder, built, port: ports.api, env: ofApi }));

    const firstWorker = await worker('worker');
    const variables = { ...addresses, ...tokenVariables(callers.tokens), ...encryption };
    await writeFile(envFile, envLines(variables), { mode: PRIVATE_FILE });
    if (PLANETSCALE_URL) await started(startGateway({ folder, url: PLANETSCALE_URL, databaseUrl: urls.api }));
    await api();
    if (edge && PLANETSCALE_URL) {
      const servers = { temporal: TEMPORAL_HTTP_URL, database: PLANETSCALE_URL };
      await started(startEdge({ folder, port: ports.edge, ...servers, settings: ofApi }));
    }
    const startAgain = (name: 'sql' | 'temporal' | 'api') => ({ sql, temporal, api })[name]();
    const { auth, tokens } = callers;
    return {
      addresses,
      auth,
      ...(tokens && { tokens }),
      encryption,
      services,
      worker: firstWorker,
      startWorker: worker,
      startAgain,
      stop,
    };
  } catch (error) {
    await stop();
    await reap(folder);
    // Not a TypeError or the like, which is a bug and needs its stack.
    throw error instanceof Error && (error.constructor === Error || error instanceof ConfigError)
      ? new ReportedError(error.message, { cause: error })
      : error;
  }
}

/**
 * Runs `use` on a stack in a throw-away folder; stops the stack and removes the folder afterwards. So does Ctrl-C, also while
 * the stack is starting; it is then stopped once it has started. A second Ctrl-C ends this process at once.
 */
export async function withStack<T>(
  options: Omit<StackOptions, 'folder' | 'persistent'>,
  use: (stack: Stack, folder: string) => Promise<T>,
): Promise<T> {
  const { folder, remove } = await throwAwayFolder(options.say);
  const starting = startStack({ ...options, folder, persistent: false });
  let interrupted = false;
  const interrupt = () => {
    interrupted = true;
    void end().finally(() => process.exit(130));
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const end = async () => {
    for (const signal of signals) process.off(signal, interrupt);
    const stack = await starting;
    await stack.stop();
    await remove();
  };
  for (const signal of signals) process.once(signal, interrupt);
  const stack = await starting;
  // `interrupt` ends the process.
  if (interrupted) return new Promise(() => {});
  try {
    return await use(stack, folder);
  } finally {
    await end();
  }
}

/** Migrates the database. Makes accounts on a server of the stack's own only: what DATABASE_URL names is used as it is. */
async function programUrls(url: string): Promise<ProgramUrls> {
  if (!process.env.DATABASE_URL) return accountsOn(url, STACK_ACCOUNTS);
  await migrate(url);
  return { api: url, worker: url };
}

/** Lines that a shell can source and `parseEnv` can read; none for an empty variable. */
function envLines(variables: object): string {
  return Object.entries(variables)
    .filter(([, value]) => value !== '')
    .map(([key, value]) => `${key}=${/^[\w:/.@%+-]*$/.test(value) ? value : `'${value}'`}\n`)
    .join('');
}
