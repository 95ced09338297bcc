/** The packed packages install, compile and run in a project that has nothing of this repository. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { findExecutable, pythonPackage } from '@trellis/local/stack/programs';
import { build } from 'esbuild';
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freshId } from '../fixtures.ts';
import { need } from '../servers.ts';
import { type OutsideProject, outsideProject, printed, REPOSITORY } from './outside-project.ts';

/** The servers that the examples run against. */
const servers = () => need('api', 'temporal');

let project: OutsideProject;
beforeAll(async () => {
  project = await outsideProject();
}, 120_000);
afterAll(() => project?.remove());

const PACKAGES = [
  { name: 'client' as const, dependencies: ['@trpc/client', '@trpc/server'], imports: ['@trpc/client'] },
  { name: 'contracts' as const, dependencies: ['valibot'], imports: ['valibot'] },
];

describe.each(PACKAGES)('the tarball of $name', ({ name, dependencies, imports }) => {
  const installed = (...path: string[]) => join(project.folder, 'node_modules/@trellis', name, ...path);

  test('holds built modules, their types and nothing else', async () => {
    const listed = (await printed('tar', ['tzf', project.tarballs[name]], project.folder)).trim().split('\n');
    const files = listed.map((file) => file.replace(/^package\//, ''));
    expect(files).toEqual(expect.arrayContaining(['package.json', 'README.md', 'LICENSE']));
    const built = files.filter((file) => file.startsWith('dist/'));
    expect(files.length).toBe(3 + built.length);
    expect(built.filter((file) => !/^dist\/[a-z-]+\.(js|d\.ts)$/.test(file))).toEqual([]);
  });

  test(`depends only on ${dependencies.join(' and ')}`, async () => {
    const manifest = JSON.parse(await readFile(installed('package.json'), 'utf8'));
    expect(Object.keys(manifest.dependencies)).toEqual(dependencies);
    expect(Object.keys(manifest)).not.toEqual(expect.arrayContaining([expect.stringMatching(/^private$|[dD]ev|peer/)]));
    const texts = await Promise.all(
      (await readdir(installed('dist'))).map((file) => readFile(installed('dist', file), 'utf8')),
    );
    const named = texts.flatMap((text) =>
      [...text.matchAll(/(?:from|import\()\s*['"]([^'"]+)['"]/g)].map(([, name]) => name),
    );
    expect(new Set(named.filter((module) => !module?.startsWith('./')))).toEqual(new Set(imports));
  });

  test('publint and attw find nothing', async () => {
    const publint = await project.run('publint/src/cli.js', installed(), '--strict', '--pack', 'false');
    expect(publint).toContain('All good!');
    await project.run('@arethetypeswrong/cli/dist/index.js', project.tarballs[name], '--profile', 'esm-only');
  });

  test('leaves the manifest of the sources as it was', async () => {
    const source = join(REPOSITORY, name === 'client' ? 'api/client' : 'contracts', 'package.json');
    expect(project.manifests[name]).toBe(await readFile(source, 'utf8'));
  });
});

const NATIVE_COMPILER = join(REPOSITORY, 'node_modules/typescript/bin/tsc');
/** The last compiler written in JavaScript, and the native one. */
const COMPILERS = [join(REPOSITORY, 'node_modules/typescript5/bin/tsc'), NATIVE_COMPILER];
const RESOLUTIONS = [
  { module: 'nodenext', resolution: 'nodenext' },
  { module: 'esnext', resolution: 'bundler' },
];

test.each(
  RESOLUTIONS,
)('strict TypeScript accepts correct use of both and rejects misuse, with $resolution', async (given) => {
  const options = ['--noEmit', '--module', given.module, '--moduleResolution', given.resolution];
  for (const compiler of COMPILERS) await printed(process.execPath, [compiler, '-p', '.', ...options], project.folder);
}, 60_000);

test("the client's published types are those it has in the repository", async () => {
  const source = join(REPOSITORY, 'api/client/types.ts');
  const published = await readFile(join(project.folder, 'node_modules/@trellis/client/dist/types.d.ts'), 'utf8');
  const names = [...published.matchAll(/^export (?:type|interface) (\w+) /gm)].map(([, name]) => name);
  expect(names).toEqual(expect.arrayContaining(['OrdersClient', 'ClientError', 'OrderStatus', 'State']));
  const lines = [
    "import type * as Published from '@trellis/client';",
    "import type * as Source from 'source';",
    // Parts expands a type to its properties, so that two types with the same properties are identical.
    'type Parts<T> = T extends AbortSignal ? T : T extends (...given: infer Given) => Promise<infer Answer>',
    '  ? (...given: Parts<Given>) => Promise<Parts<Answer>> : { [Key in keyof T]: Parts<T[Key]> };',
    'type Is<T> = <U>() => U extends Parts<T> ? 1 : 2;',
    'type Same<A, B> = Is<A> extends Is<B> ? true : false;',
    ...names.map((name) => `export const ${name}: Same<Published.${name}, Source.${name}> = true;`),
  ];
  await writeFile(join(project.folder, 'same.ts'), lines.join('\n'));
  const config = {
    extends: join(REPOSITORY, 'tsconfig.json'),
    compilerOptions: { paths: { source: [source] } },
    include: [],
    files: ['same.ts'],
  };
  await writeFile(join(project.folder, 'tsconfig.same.json'), JSON.stringify(config));
  await printed(process.execPath, [NATIVE_COMPILER, '-p', 'tsconfig.same.json'], project.folder);
}, 60_000);

test('vite builds a page with the client, and the client with its dependencies fits into 10 kB', async () => {
  await project.run('vite/bin/vite.js', 'build', '--logLevel', 'error');
  const assets = join(project.folder, 'dist/assets');
  const [script, ...others] = await readdir(assets);
  expect(others).toEqual([]);
  const code = await readFile(join(assets, script ?? ''));
  expect(code.includes('/trpc')).toBe(true);
  process.stdout.write(`a page with the client: ${code.length} bytes, ${gzipSync(code).length} gzipped\n`);
  expect(gzipSync(code).length).toBeLessThan(10_000);
}, 60_000);

describe('the example of the documentation ships an order', () => {
  const approved = (order_id: string) => ({ order_id, approved: true, state: expect.any(String) });
  const built = (file: string) => join(project.folder, 'built', file);

  beforeAll(async () => {
    for (const config of ['tsconfig.json', 'tsconfig.temporal.json'])
      await project.run('typescript/bin/tsc', '-p', config, '--module', 'nodenext');
  }, 60_000);

  test.for([20, 22, 24])('under Node %i, skipped where it is not on PATH', async (major, { skip }) => {
    const node = (await findNode(major)) ?? skip(`there is no Node ${major} on PATH`);
    const { API_URL } = await servers();
    const order_id = freshId();
    const answer = await printed(node, [built('node.js'), API_URL, order_id], project.folder);
    expect(JSON.parse(answer)).toMatchObject(approved(order_id));
  });

  test('on workerd', async () => {
    const { API_URL } = await servers();
    const { outputFiles } = await build({
      entryPoints: [built('worker.js')],
      bundle: true,
      platform: 'browser',
      format: 'esm',
      write: false,
    });
    const workerd = new Miniflare({
      cf: false,
      enableDevRegistry: false,
      workers: [
        {
          config: {
            name: 'shop',
            // Later dates add Node's globals.
            compatibilityDate: '2025-01-01',
            manifest: {
              mainModule: 'shop.js',
              modules: { 'shop.js': { type: 'esm', contents: outputFiles[0]?.text ?? '' } },
            },
            env: { API_URL: { type: 'text', value: API_URL } },
          },
        },
      ],
    });
    try {
      const order_id = freshId();
      const answer = await workerd.dispatchFetch('http://shop/', { method: 'POST', body: order_id });
      const text = await answer.text();
      expect(answer.status, text).toBe(200);
      expect(JSON.parse(text)).toMatchObject(approved(order_id));
    } finally {
      await workerd.dispose();
    }
  });

  test('through Temporal, with only the contracts package', async () => {
    const { TEMPORAL_ADDRESS } = await servers();
    const answer = await printed(process.execPath, [built('temporal.js'), TEMPORAL_ADDRESS, freshId()], project.folder);
    expect(JSON.parse(answer)).toBe('shipped');
  });
});

describe('a client generated from /openapi.json ships an order', () => {
  const answered = (order_id: string) => ({
    workflow_id: `order-${order_id}`,
    ok: true,
    status: { order_id, approved: true },
    code: 'NOT_FOUND',
  });

  test('in TypeScript, by openapi-typescript and openapi-fetch', async () => {
    const { API_URL } = await servers();
    await project.run('openapi-typescript/bin/cli.js', `${API_URL}/openapi.json`, '-o', 'schema.d.ts');
    await project.run('typescript/bin/tsc', '-p', 'tsconfig.openapi.json', '--module', 'nodenext');
    const order_id = freshId();
    const file = join(project.folder, 'built/openapi.js');
    expect(JSON.parse(await printed(process.execPath, [file, API_URL, order_id], project.folder))).toMatchObject(
      answered(order_id),
    );
  }, 60_000);

  test('in Python, by openapi-python-client', async () => {
    const { API_URL } = await servers();
    const library = await pythonPackage('openapi-python-client==0.29.1');
    // The generator formats its output with ruff, which is installed with it.
    const env = {
      PYTHONPATH: `${library}${delimiter}${project.folder}`,
      PATH: `${library}/bin${delimiter}${process.env.PATH}`,
    };
    const options = [
      '--url',
      `${API_URL}/openapi.json`,
      '--meta',
      'none',
      '--output-path',
      'shop_api',
      '--fail-on-warning',
    ];
    await printed('python3', ['-m', 'openapi_python_client', 'generate', ...options], project.folder, env);
    const order_id = freshId();
    const caller = join(REPOSITORY, 'test/callers/openapi.py');
    expect(JSON.parse(await printed('python3', [caller, API_URL, order_id], project.folder, env))).toMatchObject(
      answered(order_id),
    );
  }, 120_000);
});

/** The path of a Node of this major version. */
async function findNode(major: number): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const node = await findExecutable(['node', `node${major}`], [folder]);
    if (node && (await printed(node, ['--version'], project.folder)).startsWith(`v${major}.`)) return node;
  }
  return undefined;
}
