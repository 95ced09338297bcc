import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createOrdersClient } from '@trellis/client';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** `npm start` in a clone of its own, so that one that a person runs in this folder is none of the tests' business. */
describe('npm start', () => {
  let clone: string;
  const launchers: ChildProcess[] = [];

  beforeAll(async () => {
    clone = await mkdtemp(join(tmpdir(), 'trellis-clone-'));
    for (const folder of ['contracts', 'drizzle', 'api', 'workers', 'local', 'package.json'])
      await cp(join(ROOT, folder), join(clone, folder), { recursive: true });
    await symlink(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
    return () => rm(clone, { recursive: true, force: true });
  });

  afterEach(async () => {
    for (const launcher of launchers.splice(0)) await ended(launcher, 'SIGTERM');
  });

  function launch(script = 'start.ts', args: string[] = []): { launcher: ChildProcess; output: () => string } {
    const { VITEST: _, NODE_OPTIONS: __, ...env } = process.env;
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

  const healthy = () =>
    eventually(async () => {
      const { API_URL } = await addresses();
      return (await fetch(`${API_URL}/health`)).ok;
    }, 40_000).catch(() => expect.fail('the API did not become healthy'));

  async function up(): Promise<{ launcher: ChildProcess; output: () => string }> {
    const launched = launch();
    await eventually(async () => {
      if (launched.launcher.exitCode !== null) throw new Error(launched.output());
      return launched.output().includes('is up');
    }, 40_000);
    await healthy();
    return launched;
  }

  test('keeps orders across a restart, stops on Ctrl-C within seconds, and refuses to run twice in one folder', async () => {
    const first = await up();
    const env = await addresses();
    expect(Object.keys(env)).toEqual([
      'API_URL',
      'TEMPORAL_ADDRESS',
      'TEMPORAL_HTTP_URL',
      'TEMPORAL_UI_URL',
      'TEMPORAL_METRICS_URL',
      'DATABASE_URL',
      'PLANETSCALE_URL',
    ]);
    const order = anOrder();
    await createOrdersClient(env.API_URL ?? '').start.mutate(order);

    const second = launch();
    expect(await ended(second.launcher)).toBe(1);
    expect(second.output()).toContain('already runs');

    const began = performance.now();
    expect(await ended(first.launcher, 'SIGINT')).toBe(0);
    expect(performance.now() - began).toBeLessThan(10_000);
    await expect(fetch(`${env.API_URL}/health`)).rejects.toThrow();

    await up();
    const { API_URL = '' } = await addresses();
    const status = await eventually(async () => {
      const answer = await createOrdersClient(API_URL).status.query({ order_id: order.order_id });
      return answer.state === 'expired' && answer;
    });
    expect(status.order_id).toBe(order.order_id);
  }, 120_000);

  test('is not kept from starting by what a killed launcher left', async () => {
    const { launcher } = await up();
    await ended(launcher, 'SIGKILL');
    const again = await up();
    expect(again.output()).toContain('left over from an earlier start');
  }, 120_000);

  test('moves to a free port when the documented one is taken, and says so', async () => {
    const squatter = createServer().listen(8000, '127.0.0.1');
    await Promise.race([once(squatter, 'listening'), once(squatter, 'error')]);
    try {
      const { output } = await up();
      expect(output()).toContain('port 8000 (api) is taken');
      expect((await addresses()).API_URL).not.toMatch(/:8000$/);
    } finally {
      squatter.close();
    }
  }, 120_000);

  test('the demo says which line and field of its file is wrong', async () => {
    const file = join(clone, 'broken.yaml');
    const sample = await readFile(join(ROOT, 'local/orders.yaml'), 'utf8');
    const line = sample.split('\n').findIndex((text) => text.includes('qty: 10000')) + 1;
    await writeFile(file, sample.replace('qty: 10000', 'qty: many'));
    const { launcher, output } = launch('demo.ts', [file]);
    expect(await ended(launcher)).toBe(1);
    expect(output()).toMatch(new RegExp(`broken\\.yaml:${line}: 5\\.items\\.0\\.qty: `));
  });
});
