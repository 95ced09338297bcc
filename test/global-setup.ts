/** The test run's side of `servers.ts`: starts a part when the first test file needs it, and stops all parts at the end. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { makeKey, publicKeyOf, signToken } from '@trellis/api/callers/own-keys';
import { build } from '@trellis/build/build';
import { SCOPE_NAMES, type Scope } from '@trellis/contracts/scopes';
import { accountsOn } from '@trellis/local/stack/accounts';
import { AUDIENCE } from '@trellis/local/stack/callers';
import { prepareDatabase, startDatabase } from '@trellis/local/stack/database-server';
import { startEdge } from '@trellis/local/stack/edge-server';
import { throwAwayFolder } from '@trellis/local/stack/folder';
import { gatewayUrl, startApi, startGateway, startWorker } from '@trellis/local/stack/node-programs';
import { choosePorts, freePort, HOST } from '@trellis/local/stack/ports';
import type { Service } from '@trellis/local/stack/processes';
import { findTestServer, prepareTemporal, startTemporal } from '@trellis/local/stack/temporal-server';
import type { TestProject } from 'vitest/node';
import type { Part, Parts, Tokens } from './servers.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The URL at which `need` requests parts. */
    servers: string;
    /** Holds the logs of all parts; removed at the end of the run. */
    folder: string;
  }
}

const SETTINGS = {
  AUTH: 'off',
  ENCRYPTION_KEYS: '',
  ENCRYPT: 'off',
  FLAKY_CALL: 'off',
  POLICY: 'exercise',
  CORS_ORIGINS: 'https://shop.example',
};
/** Stopped last, because the other programs use them while they stop. */
const SERVERS = ['sql', 'temporal'];
const say = (line: string) => process.stderr.write(`${line}\n`);

export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const { folder, remove } = await throwAwayFolder(say);
  const { start, stop } = await createParts(folder);
  const server = createServer(async ({ url = '' }, response) => {
    try {
      response.end(JSON.stringify(await start(url.slice(1) as Part)));
    } catch (error) {
      response.writeHead(500).end(error instanceof Error ? error.message : String(error));
    }
  });
  await once(server.listen(0, HOST), 'listening');
  provide('servers', `http://${HOST}:${(server.address() as AddressInfo).port}`);
  provide('folder', folder);
  return async () => {
    server.closeAllConnections();
    server.close();
    await stop();
    await remove();
  };
}

/** The tokens of two callers, as nobody may approve what they have started themselves. */
async function tokensOf(key: Parameters<typeof signToken>[0]): Promise<Tokens> {
  const sign = (sub: string, scopes: readonly Scope[]) =>
    signToken(key, { sub, scopes, audience: AUDIENCE, expires: '1h' });
  const starting = SCOPE_NAMES.filter((scope) => scope !== 'orders:approve');
  return { starting: await sign('starter', starting), deciding: await sign('decider', SCOPE_NAMES) };
}

/** `start` starts a part once, however often it is called; `stop` waits for parts that are starting. */
async function createParts(folder: string) {
  const ports = await choosePorts();
  const starting = new Map<Part, Promise<unknown>>();
  const services: Promise<Service>[] = [];
  const cleanUp: (() => Promise<void>)[] = [];

  function started<S extends Service>(service: Promise<S>): Promise<S> {
    services.push(service);
    return service;
  }

  function start<P extends Part>(part: P): Promise<Parts[P]> {
    const known = starting.get(part) ?? starters[part]();
    starting.set(part, known);
    return known as Promise<Parts[P]>;
  }

  const servers = () => Promise.all([start('database'), start('temporal'), start('programs')]);

  const starters: { [P in Part]: () => Promise<Parts[P]> } = {
    async database() {
      const { url, created, drop } = await prepareDatabase({
        persistent: false,
        startServer: () => started(startDatabase({ folder, port: ports.sql, say })),
      });
      cleanUp.push(drop);
      const { api, worker, drop: dropAccounts } = await accountsOn(url);
      cleanUp.push(dropAccounts);
      return { DATABASE_URL: url, canCreateDatabases: created, ofApi: api, ofWorker: worker };
    },
    async gateway() {
      const { DATABASE_URL: databaseUrl } = await start('database');
      const url = gatewayUrl(databaseUrl, ports.gateway);
      await started(startGateway({ folder, url, databaseUrl }));
      return { PLANETSCALE_URL: url };
    },
    async temporal() {
      // Tests use fresh ids in the namespace `default`, also of a named server.
      return prepareTemporal({
        persistent: true,
        async startServer() {
          await started(startTemporal({ folder, ports, persistent: false, say }));
          return {
            TEMPORAL_ADDRESS: `${HOST}:${ports.grpc}`,
            TEMPORAL_HTTP_URL: `http://${HOST}:${ports.http}`,
            TEMPORAL_NAMESPACE: 'default',
            TEMPORAL_METRICS_URL: `http://${HOST}:${ports.metrics}/metrics`,
          };
        },
      });
    },
    async testServer() {
      return { testServer: (await findTestServer(say)) ?? '' };
    },
    async programs() {
      const built = join(folder, 'dist');
      await build(built);
      return { built };
    },
    async worker() {
      const [{ ofWorker: DATABASE_URL }, { TEMPORAL_ADDRESS }, { built }] = await servers();
      await started(startWorker({ folder, built, env: { ...SETTINGS, DATABASE_URL, TEMPORAL_ADDRESS } }));
      return { workerLog: join(folder, 'logs/worker.log') };
    },
    async api() {
      const [{ ofApi: DATABASE_URL }, { TEMPORAL_ADDRESS }, { built }] = await servers();
      const env = { ...SETTINGS, DATABASE_URL, TEMPORAL_ADDRESS };
      await Promise.all([start('worker'), started(startApi({ folder, built, port: ports.api, env }))]);
      return { API_URL: `http://${HOST}:${ports.api}` };
    },
    async apis() {
      const [{ API_URL }, { PLANETSCALE_URL: database }, { TEMPORAL_HTTP_URL: temporal }, { built }] =
        await Promise.all([start('api'), start('gateway'), start('temporal'), start('programs')]);
      const port = await freePort();
      const [key, issuer, guardedPort] = [await makeKey(), `http://${HOST}:${await freePort()}`, await freePort()];
      const tokens = await tokensOf(key);
      const guarded = { AUTH: 'on', AUTH_PUBLIC_KEYS: publicKeyOf(key), AUTH_ISSUERS: issuer };
      const env = { ...SETTINGS, ...guarded, TEMPORAL_ADDRESS: temporal, DATABASE_URL: database };
      const settings = { ...process.env, ...SETTINGS };
      const inFolder = (name: string) => join(folder, name);
      await Promise.all([
        started(startApi({ folder, built, name: 'api-over-http', port, env })),
        started(startEdge({ folder, port: ports.edge, temporal, database, settings })),
        started(
          startEdge({
            folder: inFolder('guarded'),
            port: guardedPort,
            temporal,
            database,
            settings: { ...settings, ...guarded },
          }),
        ),
      ]);
      return {
        apis: [
          { name: 'Node, gRPC, mysql2', url: API_URL },
          { name: 'Node, HTTP, PlanetScale driver, with tokens', url: `http://${HOST}:${port}`, tokens },
          { name: 'workerd, HTTP, PlanetScale driver', url: `http://${HOST}:${ports.edge}` },
          { name: 'workerd, HTTP, PlanetScale driver, with tokens', url: `http://${HOST}:${guardedPort}`, tokens },
        ],
        key,
        issuer,
      };
    },
  };

  async function stop(): Promise<void> {
    await Promise.allSettled(starting.values());
    // Including services of a part of which another service failed to start.
    const settled = await Promise.allSettled(services);
    const running = settled.flatMap((service) => (service.status === 'fulfilled' ? [service.value] : []));
    const isServer = ({ name }: Service) => SERVERS.includes(name);
    await Promise.all(running.filter((service) => !isServer(service)).map((service) => service.stop()));
    // The last one first: a database goes after the accounts that were made on it.
    for (const work of cleanUp.reverse()) await work();
    await Promise.all(running.filter(isServer).map((service) => service.stop()));
  }

  return { start, stop };
}
