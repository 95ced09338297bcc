import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { createOrdersClient } from '@trellis/client';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** What a developer may have in a `.env` for servers elsewhere. */
const FOR_OTHER_SERVERS = `TEMPORAL_ADDRESS=temporal.example.com:7233
TEMPORAL_NAMESPACE=elsewhere
TEMPORAL_API_KEY=secret
TEMPORAL_TLS=true
TEMPORAL_TLS_CLIENT_CERT_PATH=/nowhere/client.pem
TEMPORAL_PROFILE=elsewhere
TEMPORAL_CONFIG_FILE=/nowhere/temporal.toml
TEMPORAL_WORKER_BUILD_ID=7
WORKER_QUEUES=orders
SANDBOX_DATABASE_URL=mysql://db.example.com/sandbox
`;

/** `npm start` in a clone of its own, so that the tests don't touch one that runs in this folder. */
describe('npm start', () => {
  let clone: string;
  const launchers: ChildProcess[] = [];

  beforeAll(async () => {
    clone = await mkdtemp(join(tmpdir(), 'trellis-clone-'));
    for (const folder of ['build', 'contracts', 'drizzle', 'api', 'workers', 'local', 'package.json', 'wrangler.toml'])
      await cp(join(ROOT, folder), join(clone, folder), { recursive: true });
    await symlink(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
    await writeFile(join(clone, '.env'), FOR_OTHER_SERVERS);
    return () => rm(clone, { recursive: true, force: true });
  });

  afterEach(async () => {
    for (const launcher of launchers.splice(0)) await ended(launcher, 'SIGTERM');
  });

  function launch(
    script = 'start.ts',
    { args = [], env: given = {} }: { args?: string[]; env?: NodeJS.ProcessEnv } = {},
  ): { launcher: ChildProcess; output: () => string } {
    const { VITEST: _, NODE_OPTIONS: __, ...inherited } = process.env;
    const env = { ...inherited, ...given };
    const launcher = spawn(process.execPath, [join(clone, 'local', script), ...args], { cwd: clone, env });
    launchers.push(launcher);
    let output = '';
    for (const stream of [launcher.stdout, launcher.stderr]) stream?.on('data', (chunk) => (output += chunk));
    return { launcher, output: () => output };
  }

  async function ended(launcher: ChildProcess, signal?: NodeJS.Signals): Promise<number | null> {
    if (launcher.exitCode !== null || launcher.signalCode !== null) return launcher.exitCode;
    if (signal) launcher.kill(signal);
    await once(launcher, 'exit');
    return launcher.exitCode;
  }

  const addresses = async () =>
    Object.fromEntries(
      (await readFile(join(clone, '.local/env'), 'utf8'))
        .trim()
        .split('\n')
        .map((line) => line.split('=')),
    ) as Record<string, string>;

  async function query(url: string | undefined, statement: string): Promise<RowDataPacket[]> {
    const connection = await createConnection(`${url}`);
    const [rows] = await connection.query<RowDataPacket[]>(statement).finally(() => connection.end());
    return rows;
  }

  const healthy = () =>
    eventually(async () => {
      const { API_URL } = await addresses();
      return (await fetch(`${API_URL}/health`)).ok;
    }, 40_000).catch(() => expect.fail('the API did not become healthy'));

  async function up(env: NodeJS.ProcessEnv = {}): Promise<{ launcher: ChildProcess; output: () => string }> {
    const launched = launch('start.ts', { env });
    await eventually(async () => {
      if (launched.launcher.exitCode !== null) throw new Error(launched.output());
      return launched.output().includes('To ship an order');
    }, 40_000);
    await healthy();
    return launched;
  }

  test('keeps orders and addresses across a restart, stops on Ctrl-C within seconds, and refuses to run twice in one folder, whatever Temporal server .env names', async () => {
    const first = await up();
    const env = await addresses();
    expect(Object.keys(env)).toEqual([
      'API_URL',
      'TEMPORAL_ADDRESS',
      'TEMPORAL_HTTP_URL',
      'TEMPORAL_NAMESPACE',
      'TEMPORAL_UI_URL',
      'TEMPORAL_METRICS_URL',
      'DATABASE_URL',
      'PLANETSCALE_URL',
    ]);
    const { password } = new URL(`${env.DATABASE_URL}`);
    expect(password).not.toBe('');
    expect(first.output()).toMatch(/^DATABASE_URL +mysql:\/\/root@127\.0\.0\.1:\d+\/trellis$/m);
    expect(first.output()).not.toContain(password);
    const order = anOrder();
    await createOrdersClient(env.API_URL ?? '').start.mutate(order);
    // Worker and API; not this query's own connection, of the owner.
    const inUse =
      'SELECT DISTINCT user FROM information_schema.processlist WHERE db IS NOT NULL AND id != CONNECTION_ID()';
    const users = (await query(env.DATABASE_URL, inUse)).map(({ user }) => user);
    expect(users.toSorted()).toEqual(['trellis_api', 'trellis_worker']);

    const second = launch();
    expect(await ended(second.launcher)).toBe(1);
    expect(second.output()).toContain('already runs');

    const began = performance.now();
    expect(await ended(first.launcher, 'SIGINT')).toBe(0);
    expect(performance.now() - began).toBeLessThan(10_000);
    await expect(fetch(`${env.API_URL}/health`)).rejects.toThrow();
    expect(existsSync(join(clone, '.local/env'))).toBe(false);

    await up();
    const { PLANETSCALE_URL: _, ...again } = await addresses();
    expect(env).toMatchObject(again);
    expect((await stat(join(clone, '.local/env'))).mode & 0o777).toBe(0o600);
    const { API_URL = '' } = again;
    const status = await eventually(async () => {
      const answer = await createOrdersClient(API_URL).status.query({ order_id: order.order_id });
      return answer.state === 'expired' && answer;
    });
    expect(status.order_id).toBe(order.order_id);
  }, 120_000);

  test('starts although a killed launcher left its servers running', async () => {
    const { launcher } = await up();
    await ended(launcher, 'SIGKILL');
    const again = await up();
    expect(again.output()).toContain('left over from an earlier start');
  }, 120_000);

  test('has one EDGE_URL while npm run edge runs and none afterwards, also after one that was killed; with ENCRYPT=on both encrypt', async () => {
    await up({ ENCRYPT: 'on' });
    const envFile = join(clone, '.local/env');
    const before = await readFile(envFile, 'utf8');
    await writeFile(envFile, `${before}EDGE_URL=http://127.0.0.1:1\n`);
    const { launcher, output } = launch('edge.ts');
    await eventually(async () => {
      if (launcher.exitCode !== null) throw new Error(output());
      return output().includes('Ctrl-C stops it');
    }, 70_000);
    const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(output()) ?? [];
    expect(await readFile(envFile, 'utf8')).toBe(`${before}EDGE_URL=${url}\n`);
    for (const script of ['start.ts', 'edge.ts']) {
      const second = launch(script);
      expect(await ended(second.launcher)).toBe(1);
      expect(second.output()).toMatch(/^.* already runs .*\n$/);
    }
    expect((await fetch(`${url}/health`)).ok).toBe(true);
    const { DATABASE_URL, API_URL = '' } = await addresses();
    const orders = [anOrder(), anOrder()];
    for (const [n, order] of orders.entries())
      await createOrdersClient(n === 0 ? API_URL : `${url}`).start.mutate(order);
    const keys = await query(DATABASE_URL, 'SELECT order_id FROM order_keys');
    const encrypted = keys.map(({ order_id }) => order_id);
    expect(encrypted).toEqual(expect.arrayContaining(orders.map(({ order_id }) => order_id)));
    expect(await ended(launcher, 'SIGINT')).toBe(0);
    expect(await readFile(envFile, 'utf8')).toBe(before);
  }, 150_000);

  test('moves to a free port when the documented one is taken, and prints it', async () => {
    await rm(join(clone, '.local/ports.json'), { force: true });
    const holder = createServer().listen(8000, '127.0.0.1');
    // If another program listens there already, the port is taken too.
    await once(holder, 'listening').catch(() => undefined);
    try {
      const { output } = await up();
      expect(output()).toContain('port 8000 (api) is taken');
      const { API_URL = '' } = await addresses();
      expect(API_URL).not.toMatch(/:8000$/);
      expect(output()).toContain(`url=${API_URL}/orders/`);
      expect(output()).not.toContain('(edge)');
    } finally {
      holder.close();
    }
  }, 120_000);

  test('names DATABASE_URL, without its password, when no server answers there', async () => {
    const { launcher, output } = launch('start.ts', {
      env: { DATABASE_URL: 'mysql://shop:secret@127.0.0.1:1/trellis' },
    });
    expect(await ended(launcher)).toBe(1);
    expect(output()).toContain('DATABASE_URL: no connection to mysql://127.0.0.1:1/trellis: connect ECONNREFUSED');
    expect(output()).not.toContain('secret');
  }, 60_000);

  test('names PORT when it is no port', async () => {
    const { launcher, output } = launch('start.ts', { env: { PORT: 'eighty' } });
    expect(await ended(launcher)).toBe(1);
    expect(output()).toBe('PORT must be a port number, not eighty\n');
  }, 60_000);

  test('the demo leaves nothing behind when Ctrl-C comes while its stack starts', async () => {
    const { launcher, output } = launch('demo.ts');
    const folder = join(clone, '.local/throw-away');
    const stacks = () => readdir(folder).catch((): string[] => []);
    const pids = async () =>
      (await Promise.all((await stacks()).map((name) => readdir(join(folder, name, 'pids'))))).flat();
    await eventually(async () => (await pids().catch((): string[] => [])).includes('sql'), 20_000);
    expect(await ended(launcher, 'SIGINT')).toBe(130);
    expect(output()).not.toContain('API: http');
    expect(await stacks()).toEqual([]);
  }, 60_000);

  test('the demo names the line and the field of every problem of its file', async () => {
    const file = join(clone, 'broken.yaml');
    const sample = await readFile(join(ROOT, 'local/orders.yaml'), 'utf8');
    const lineOf = (part: string) => sample.split('\n').findIndex((text) => text.includes(part)) + 1;
    await writeFile(file, sample.replace('qty: 10000', 'qty: many').replace('send: cancel', 'send: cancle'));
    const { launcher, output } = launch('demo.ts', { args: [file] });
    expect(await ended(launcher)).toBe(1);
    expect(output()).toMatch(new RegExp(`broken\\.yaml:${lineOf('qty: 10000')}: 5\\.items\\.0\\.qty: `));
    expect(output()).toMatch(new RegExp(`broken\\.yaml:${lineOf('send: cancel')}: \\d+\\.commands\\.\\d+\\.send: `));
  });
});

describe('the options of the scripts', () => {
  const scripts = [
    ...['demo', 'start', 'edge', 'edge-cost', 'ship-rate', 'burst', 'fuzz', 'races', 'chaos', 'model', 'engines'],
    ...['api', 'worker', 'migrate', 'audit', 'prices'],
  ];

  type Result = { code: number | null; stdout: string; stderr: string };
  const run = (name: string, ...args: string[]): Promise<Result> => runWith({}, name, ...args);

  async function runWith(env: NodeJS.ProcessEnv, name: string, ...args: string[]): Promise<Result> {
    const { scripts } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
    const [, file] = /^node (\S+)$/.exec(scripts[name]) ?? [];
    const child = spawn(process.execPath, [`${file}`, ...args], {
      cwd: ROOT,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
    return { code: child.exitCode, stdout, stderr };
  }

  test.concurrent.each(
    scripts,
  )('%s: --help shows the usage, an unknown option or an extra argument ends it with one line', async (name) => {
    const help = await run(name, '--help');
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toMatch(new RegExp(`^Usage: npm (run )?${name} -- \\[options\\]`));
    for (const args of [['--edeg'], ['one', 'two']]) {
      const wrong = await run(name, ...args);
      expect(wrong).toMatchObject({ code: 2, stdout: '' });
      expect(wrong.stderr).toMatch(
        /^.*--edeg.*--help.*\n$|^(too many arguments|Unexpected argument 'one').*--help.*\n$/,
      );
    }
  });

  test.concurrent.each([
    'races',
    'chaos',
    'burst',
    'ship-rate',
    'fuzz',
    'edge-cost',
  ])('%s: a database that does not answer ends it with one line, which names the variable and no password', async (name) => {
    const DATABASE_URL = 'mysql://shop:secret@127.0.0.1:1/trellis';
    const { code, stderr } = await runWith({ DATABASE_URL }, name);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: 'DATABASE_URL: no connection to mysql://127.0.0.1:1/trellis: connect ECONNREFUSED 127.0.0.1:1\n',
    });
  }, 60_000);

  test('a URL that is malformed ends a script with one line, which contains no password', async () => {
    const { code, stderr } = await runWith(
      {
        DATABASE_URL: 'mysql://shop:secret@127.0.0.1:1/trellis?ssl-mode=PREFERRED',
        TEMPORAL_ADDRESS: 'server:7233',
        TEMPORAL_HTTP_URL: 'http://shop:secret@127.0.0.1:1',
      },
      'races',
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/^DATABASE_URL option ssl-mode must be one of .*\n$/);
    expect(stderr).not.toContain('secret');
  }, 60_000);

  test('a number is checked, and the message names its option', async () => {
    const { code, stderr } = await run('burst', '--orders', '200,many');
    expect(code).toBe(2);
    expect(stderr).toMatch(/^option '--orders .*'200,many'.* whole number.*\n$/);
  });
});
