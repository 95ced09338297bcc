/** Temporal's own server, built from source: a cluster of two nodes on MySQL, and single nodes that demand proof of who calls. */
import { generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import { join } from 'node:path';
import { Connection, type ConnectionOptions } from '@temporalio/client';
import { ROOT } from '@trellis/local/stack/folder';
import { freePort, HOST } from '@trellis/local/stack/ports';
import { type Service, startProcess } from '@trellis/local/stack/processes';
import { run } from '@trellis/local/stack/programs';
import pRetry from 'p-retry';
import { stringify } from 'yaml';
import { makeCertificates, SERVER_NAME } from '../../tls-proxy.ts';
import { goPrograms, testAndBuild } from './go-programs.ts';

type Say = (line: string) => void;

export const TEMPORAL = 'v1.32.0';
const MODULE = 'go.temporal.io/server';
const SCHEMA = 'schema/mysql/v8';
const STORES = { temporal: 'temporal', visibility: 'temporal_visibility' };
const SHARDS = 4;
const CONNECTED_FOR_MS = 120_000;
/** `internal-frontend` serves the server's own workflows, whatever the frontend demands of its callers. */
const ROLES = ['frontend', 'internal-frontend', 'history', 'matching', 'worker'] as const;

/** A node with all roles. */
export interface Node {
  /** host:port of its gRPC API. */
  address: string;
  /** host:port of its HTTP API. */
  http: string;
  /** host:port at which it serves Temporal's own services, which may do everything. */
  internal: string;
  service: Service;
  startAgain(): Promise<void>;
}

/** The folder with `bin/server`, `bin/sql`, which makes its tables, and `schema`: TEMPORAL_SERVER_ROOT, else built here. */
async function programs(say: Say): Promise<string> {
  const named = process.env.TEMPORAL_SERVER_ROOT;
  return named || goPrograms('temporal', MODULE, TEMPORAL, ['cmd/server', 'cmd/tools/sql'], say, [SCHEMA]);
}

/** Starts two nodes on a MySQL server that has none of Temporal's databases, with the namespace `default`. */
export async function startCluster(folder: string, mysqlUrl: string, say: Say): Promise<[Node, Node]> {
  const home = await programs(say);
  const { hostname, port } = new URL(mysqlUrl);
  const place = ['--plugin', 'mysql8', '--ep', hostname, '-p', port, '-u', 'root', '--pw', ''];
  for (const [schema, database] of Object.entries(STORES)) {
    const tool = (...args: string[]) => run(join(home, 'bin/sql'), [...place, '--db', database, ...args]);
    await tool('create');
    await tool('setup-schema', '-v', '0.0');
    await tool('update-schema', '-d', join(home, SCHEMA, schema, 'versioned'));
  }
  const store = (databaseName: string) => ({
    sql: {
      ...{ pluginName: 'mysql8', databaseName, connectAddr: `${hostname}:${port}`, connectProtocol: 'tcp' },
      ...{ user: 'root', password: '', maxConns: 20, maxIdleConns: 20, maxConnLifetime: '1h' },
    },
  });
  const stores = [store(STORES.temporal), store(STORES.visibility)];
  const program = await stockServer(say);
  const first = await startNode(program, folder, 'temporal-1', stores, SHARDS);
  const second = await startNode(program, folder, 'temporal-2', stores, SHARDS);
  await registerDefault({ address: first.address });
  return [first, second];
}

/** The program of a node, and what its configuration has besides the stores. */
export interface Program {
  name: string;
  command: string;
  flags: string[];
  settings: object;
}

/** Temporal's own program. */
export async function stockServer(say: Say): Promise<Program> {
  const command = join(await programs(say), 'bin/server');
  return { name: 'temporal', command, flags: ['--allow-no-auth'], settings: { log: { stdout: true, level: 'warn' } } };
}

const WITH_ACCESS = join(ROOT, 'temporal-server');
const programWithAccess = (folder: string) => join(folder, 'temporal-server');

/** Builds Temporal's server with an allow-list into `folder`. Throws an Error with what its own tests find. */
export const buildServerWithAccess = (folder: string): Promise<void> =>
  testAndBuild(WITH_ACCESS, programWithAccess(folder));

/** The program that `buildServerWithAccess` has built. */
export const serverWithAccess = (folder: string): Program => ({
  name: 'temporal-access',
  command: programWithAccess(folder),
  flags: ['--access-file', join(WITH_ACCESS, 'access.yaml')],
  settings: {
    log: { stdout: true, level: 'info' },
    dynamicConfigClient: { filepath: join(WITH_ACCESS, 'dynamic-config.yaml'), pollInterval: '60s' },
  },
});

/** How a caller proves who it is: to a program of the product in its environment, to the SDK, and in a request to the HTTP API. */
export interface Proof {
  env: NodeJS.ProcessEnv;
  connection: Pick<ConnectionOptions, 'tls' | 'apiKey'>;
  request: Pick<RequestOptions, 'ca' | 'cert' | 'key' | 'servername' | 'headers'>;
}

/** A server that demands proof of who calls. */
export interface Secured {
  node: Node;
  scheme: 'http' | 'https';
  /** That of an identity by its name. */
  proofOf(identity: string): Proof;
  /** One that the server does not accept. */
  stranger: Proof;
  /** None. */
  none: Proof;
}

/** Works with a connection of a caller, which is closed then. */
export async function withConnection<T>(
  { node }: { node: Pick<Secured['node'], 'address'> },
  { connection: options }: Proof,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  // No interceptors: the default one repeats calls.
  const connection = Connection.lazy({ address: node.address, interceptors: [], ...options });
  try {
    return await connection.withDeadline(Date.now() + CONNECTED_FOR_MS, () => work(connection));
  } finally {
    await connection.close();
  }
}

/** Who may register namespaces. */
export const ADMINISTRATOR = 'trellis-administrator';

/** Starts a server that accepts callers with a certificate of its authority only. */
export async function startWithCertificates(folder: string, program: Program): Promise<Secured> {
  const name = `${program.name}-tls`;
  const certificates = makeCertificates(join(folder, name));
  const { ca, stranger, certified } = certificates;
  const tlsOf = ({ ca, server }: Pick<typeof certificates, 'ca' | 'server'>) => ({
    server: { certFile: server.cert, keyFile: server.key, requireClientAuth: true, clientCaFiles: [ca] },
    client: { serverName: SERVER_NAME, rootCaFiles: [ca] },
  });
  // Another authority: who may call the frontend must not be taken for a node.
  const nodes = makeCertificates(join(folder, `${name}-nodes`));
  const security = { tls: { frontend: tlsOf(certificates), internode: tlsOf(nodes) } };
  const node = await startNode(program, folder, name, inMemory(), 1, security);
  const authority = readFileSync(ca);
  const tls = { serverRootCACertificate: authority, serverNameOverride: SERVER_NAME };
  const proof = (pair: { cert: string; key: string }): Proof => {
    const [cert, key] = [readFileSync(pair.cert), readFileSync(pair.key)];
    return {
      env: {
        TEMPORAL_TLS_SERVER_CA_CERT_PATH: ca,
        TEMPORAL_TLS_CLIENT_CERT_PATH: pair.cert,
        TEMPORAL_TLS_CLIENT_KEY_PATH: pair.key,
        TEMPORAL_TLS_SERVER_NAME: SERVER_NAME,
      },
      connection: { tls: { ...tls, clientCertPair: { crt: cert, key } } },
      request: { ca: authority, cert, key, servername: SERVER_NAME },
    };
  };
  const proofs = new Map<string, Proof>();
  const proofOf = (identity: string) => {
    const known = proofs.get(identity) ?? proof(certified(identity));
    proofs.set(identity, known);
    return known;
  };
  await registerDefault({ address: node.address, ...proofOf(ADMINISTRATOR).connection });
  const none = { env: {}, connection: { tls }, request: { ca: authority, servername: SERVER_NAME } };
  return { node, scheme: 'https', proofOf, stranger: proof(stranger), none };
}

/** Starts a server that accepts callers with a JSON web token only; Temporal's own program lets them do what its claims allow. */
export async function startWithTokens(folder: string, program: Program): Promise<Secured> {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const keys = join(folder, 'jwks.json');
  await writeFile(
    keys,
    JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: '1', use: 'sig', alg: 'RS256' }] }),
  );
  const authorization = {
    ...{ authorizer: 'default', claimMapper: 'default', permissionsClaimName: 'permissions' },
    jwtKeyProvider: { keySourceURIs: [`file://${keys}`] },
  };
  const node = await startNode(program, folder, `${program.name}-jwt`, inMemory(), 1, { authorization });
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const proof = (sub: string, ...permissions: string[]): Proof => {
    const exp = Math.floor(Date.now() / 1000) + 3600;
    const signed = `${part({ alg: 'RS256', typ: 'JWT', kid: '1' })}.${part({ sub, exp, permissions })}`;
    const token = `${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`;
    return {
      env: { TEMPORAL_TLS: 'false', TEMPORAL_API_KEY: token },
      connection: { tls: false, apiKey: token },
      request: { headers: { authorization: `Bearer ${token}` } },
    };
  };
  const proofOf = (identity: string) =>
    identity === ADMINISTRATOR
      ? proof(identity, 'system:admin', 'default:admin')
      : proof(identity, 'default:write', 'default:worker');
  await registerDefault({ address: node.address, ...proofOf(ADMINISTRATOR).connection });
  const none = { env: { TEMPORAL_TLS: 'false' }, connection: { tls: false }, request: {} };
  return { node, scheme: 'http', proofOf, stranger: proof('stranger', 'other:write'), none };
}

/** SQLite in memory, which the server fills with its tables. */
function inMemory(): object[] {
  const sql = {
    ...{ pluginName: 'sqlite', databaseName: 'default', connectAddr: 'localhost', connectProtocol: 'tcp' },
    ...{ connectAttributes: { mode: 'memory', cache: 'private' }, maxConns: 1, maxIdleConns: 1, maxConnLifetime: '1h' },
  };
  return [{ sql }, { sql }];
}

async function startNode(
  { command, flags, settings }: Program,
  folder: string,
  name: string,
  [store, visibility]: object[],
  shards: number,
  security: object = {},
): Promise<Node> {
  const rpc = async () => ({ grpcPort: await freePort(), membershipPort: await freePort(), bindOnLocalHost: true });
  const httpPort = await freePort();
  const services: Record<string, { rpc: Awaited<ReturnType<typeof rpc>> }> = {};
  for (const role of ROLES) services[role] = { rpc: await rpc() };
  const frontend = { ...services.frontend?.rpc, httpPort };
  const address = `${HOST}:${frontend.grpcPort}`;
  const active = { enabled: true, initialFailoverVersion: 1, rpcName: 'frontend', rpcAddress: address };
  const config = {
    ...settings,
    persistence: {
      ...{ defaultStore: 'store', visibilityStore: 'visibility', numHistoryShards: shards },
      datastores: { store, visibility },
    },
    global: { membership: { maxJoinDuration: '30s', broadcastAddress: HOST }, ...security },
    services: { ...services, frontend: { rpc: frontend } },
    clusterMetadata: {
      ...{ enableGlobalNamespace: false, failoverVersionIncrement: 10 },
      ...{ masterClusterName: 'active', currentClusterName: 'active', clusterInformation: { active } },
    },
    dcRedirectionPolicy: { policy: 'noop' },
  };
  const file = join(folder, `${name}.yaml`);
  await mkdir(folder, { recursive: true });
  await writeFile(file, stringify(config));
  const start = () =>
    startProcess(folder, {
      name,
      command,
      args: ['--config-file', file, ...flags, 'start', ...ROLES.flatMap((role) => ['--service', role])],
      readyWithin: 60_000,
      ready: (signal) => listening(`${HOST}:${httpPort}`, signal),
    });
  const node: Node = {
    address,
    http: `${HOST}:${httpPort}`,
    internal: `${HOST}:${services['internal-frontend']?.rpc.grpcPort}`,
    service: await start(),
    async startAgain() {
      node.service = await start();
    },
  };
  return node;
}

/** The HTTP port is opened last. */
async function listening(place: string, signal: AbortSignal): Promise<void> {
  const retries = Number.POSITIVE_INFINITY;
  // Any answer will do, also one that demands TLS.
  const knock = () =>
    fetch(`http://${place}`, { signal }).catch((error: Error) => {
      if ((error.cause as { code?: string })?.code === 'ECONNREFUSED') throw error;
    });
  await pRetry(knock, { retries, factor: 1, minTimeout: 200, signal });
}

/** Registers the namespace `default`, and resolves once it can be used. */
async function registerDefault(options: ConnectionOptions): Promise<void> {
  const namespace = 'default';
  const connection = await pRetry(() => Connection.connect(options), { retries: 100, factor: 1, minTimeout: 300 });
  const { workflowService } = connection;
  const retention = { seconds: 86_400 as never };
  await pRetry(() => workflowService.registerNamespace({ namespace, workflowExecutionRetentionPeriod: retention }), {
    retries: 100,
    factor: 1,
    minTimeout: 300,
    shouldRetry: ({ error }) => !/exists/.test(error.message),
  });
  await pRetry(() => workflowService.countWorkflowExecutions({ namespace }), {
    retries: 100,
    factor: 1,
    minTimeout: 300,
  });
  await connection.close();
}
