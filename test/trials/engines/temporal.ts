/** Temporal's own server, built from source: a cluster of two nodes on MySQL, and single nodes that demand proof of who calls. */
import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Connection, type ConnectionOptions } from '@temporalio/client';
import { freePort, HOST } from '@trellis/local/stack/ports';
import { type Service, startProcess } from '@trellis/local/stack/processes';
import { run } from '@trellis/local/stack/programs';
import pRetry from 'p-retry';
import { stringify } from 'yaml';
import { makeCertificates, SERVER_NAME } from '../../tls-proxy.ts';
import { goPrograms } from './go-programs.ts';

type Say = (line: string) => void;

export const TEMPORAL = 'v1.32.0';
const MODULE = 'go.temporal.io/server';
const SCHEMA = 'schema/mysql/v8';
const STORES = { temporal: 'temporal', visibility: 'temporal_visibility' };
const SHARDS = 4;
/** `internal-frontend` serves the server's own workflows, whatever the frontend demands of its callers. */
const ROLES = ['frontend', 'internal-frontend', 'history', 'matching', 'worker'] as const;

/** A node with all roles. */
export interface Node {
  /** host:port of its gRPC API. */
  address: string;
  /** host:port of its HTTP API. */
  http: string;
  service: Service;
  startAgain(): Promise<void>;
}

/** The folder with the server, the tool that makes its tables, and their schema. */
async function programs(say: Say): Promise<string> {
  return goPrograms('temporal', MODULE, TEMPORAL, ['cmd/server', 'cmd/tools/sql'], say, [SCHEMA]);
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
  const first = await startNode(home, folder, 'temporal-1', stores, SHARDS);
  const second = await startNode(home, folder, 'temporal-2', stores, SHARDS);
  await registerDefault({ address: first.address });
  return [first, second];
}

/** How a program of the product reaches a server, as environment variables; HTTP's scheme; and who is turned away. */
export interface Secured {
  node: Node;
  scheme: 'http' | 'https';
  env: NodeJS.ProcessEnv;
  /** The same without the proof. */
  stranger: NodeJS.ProcessEnv;
}

/** Starts a server that accepts callers with a certificate of its authority only. */
export async function startWithCertificates(folder: string, say: Say): Promise<Secured> {
  const { ca, server, client, stranger } = makeCertificates(join(folder, 'certificates'));
  const frontend = {
    server: { certFile: server.cert, keyFile: server.key, requireClientAuth: true, clientCaFiles: [ca] },
    client: { serverName: SERVER_NAME, rootCaFiles: [ca] },
  };
  const node = await startNode(await programs(say), folder, 'temporal-tls', inMemory(), 1, { tls: { frontend } });
  const env = (pair: { cert: string; key: string }) => ({
    TEMPORAL_TLS_SERVER_CA_CERT_PATH: ca,
    TEMPORAL_TLS_CLIENT_CERT_PATH: pair.cert,
    TEMPORAL_TLS_CLIENT_KEY_PATH: pair.key,
    TEMPORAL_TLS_SERVER_NAME: SERVER_NAME,
  });
  const [crt, key, serverRootCACertificate] = await Promise.all(
    [client.cert, client.key, ca].map((file) => readFile(file)),
  );
  if (!crt || !key || !serverRootCACertificate) throw new Error('the certificates are missing');
  await registerDefault({
    address: node.address,
    tls: { clientCertPair: { crt, key }, serverRootCACertificate, serverNameOverride: SERVER_NAME },
  });
  return { node, scheme: 'https', env: env(client), stranger: env(stranger) };
}

/** Starts a server that accepts callers with a JSON web token only, and lets them do what its claims allow. */
export async function startWithTokens(folder: string, say: Say): Promise<Secured> {
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
  const node = await startNode(await programs(say), folder, 'temporal-jwt', inMemory(), 1, { authorization });
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const token = (...permissions: string[]) => {
    const exp = Math.floor(Date.now() / 1000) + 3600;
    const signed = `${part({ alg: 'RS256', typ: 'JWT', kid: '1' })}.${part({ sub: 'trellis', exp, permissions })}`;
    return `${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`;
  };
  await registerDefault({ address: node.address, tls: false, apiKey: token('system:admin', 'default:admin') });
  const env = (...permissions: string[]) => ({ TEMPORAL_TLS: 'false', TEMPORAL_API_KEY: token(...permissions) });
  return { node, scheme: 'http', env: env('default:write', 'default:worker'), stranger: env('other:write') };
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
  home: string,
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
    log: { stdout: true, level: 'warn' },
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
      command: join(home, 'bin/server'),
      args: ['--config-file', file, '--allow-no-auth', 'start', ...ROLES.flatMap((role) => ['--service', role])],
      readyWithin: 60_000,
      ready: (signal) => listening(`${HOST}:${httpPort}`, signal),
    });
  const node: Node = {
    address,
    http: `${HOST}:${httpPort}`,
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
