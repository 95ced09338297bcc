import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { builtinModules } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { CONFIG, WRANGLER } from '@trellis/local/stack/edge-server';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { type Bundle, bundleWorker, startWorkerd } from '../trials/workerd.ts';

const KB = 1_000;

let bundle: Bundle;

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'edge-bundle-'));
  bundle = await bundleWorker(folder).finally(() => rm(folder, { recursive: true }));
});

test('the edge bundle is at most 80 kB gzipped', () => {
  const size = gzipSync(bundle.code).length;
  process.stdout.write(`the edge bundle is ${(size / KB).toFixed(1)} kB gzipped\n`);
  expect(size).toBeLessThanOrEqual(80 * KB);
});

test('a deployment uploads this bundle and nothing else', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'edge-upload-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const args = [...WRANGLER.args, 'deploy', '--config', CONFIG, '--env', 'production', '--dry-run', '--outdir', folder];
  await promisify(execFile)(process.execPath, args, { env: WRANGLER.env });
  expect(await readdir(folder)).toEqual(['README.md', 'edge.js']);
  expect(await readFile(join(folder, 'edge.js'), 'utf8')).toBe(bundle.code);
});

test('the edge bundle imports no Node module', () => {
  const inCode = [...bundle.code.matchAll(/\b(?:import|from|require)\s*\(?\s*["'`]([^"'`]+)["'`]/g)];
  const names = new Set([...bundle.imports, ...inCode.map(([, name = '']) => name)]);
  expect([...names].filter((name) => name.startsWith('node:') || builtinModules.includes(name))).toEqual([]);
});

test('the edge runtime provides none of Node’s globals', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'edge-globals-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const entry = join(folder, 'entry.js');
  const globals = ['process', 'Buffer', 'global', 'setImmediate'];
  const found = `${JSON.stringify(globals)}.filter((name) => name in globalThis)`;
  await writeFile(entry, `export default { fetch: () => Response.json(${found}) };`);
  const worker = await startWorkerd(await bundleWorker(join(folder, 'out'), entry), {});
  onTestFinished(worker.stop);
  expect(await (await fetch(worker.url)).json()).toEqual([]);
});

test('the edge bundle contains no driver, SDK, server, logger or page that the edge does not use', () => {
  const unused = /mysql2|@temporalio|@hono\/node-server|pino|swagger-ui/;
  expect(bundle.modules).toContainEqual(expect.stringMatching(/api\/edge\.ts$/));
  expect(bundle.modules.filter((path) => unused.test(path))).toEqual([]);
});
