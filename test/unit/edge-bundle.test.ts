import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { builtinModules } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
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

test('the edge bundle imports no Node module', () => {
  const { inputs, outputs } = bundle.meta;
  const imports = [...Object.values(inputs), ...Object.values(outputs)].flatMap((module) => module.imports);
  const external = imports.filter((each) => each.external).map(({ path }) => path);
  const inCode = [...bundle.code.toString().matchAll(/\b(?:import|from|require)\s*\(?\s*["']([^"']+)["']/g)];
  const names = new Set([...external, ...inCode.map(([, name = '']) => name)]);
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
  expect(Object.keys(bundle.meta.inputs)).toContain('api/edge.ts');
  expect(Object.keys(bundle.meta.inputs).filter((path) => unused.test(path))).toEqual([]);
});
