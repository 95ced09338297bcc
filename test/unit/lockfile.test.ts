/** What is installed: from where, what of it runs then, and what the product is made of. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

interface Lockfile {
  packages: Record<
    string,
    { name?: string; version?: string; resolved?: string; integrity?: string; hasInstallScript?: boolean }
  >;
}
interface Component {
  name: string;
  version: string;
  hashes?: { alg: string; content: string }[];
}

const { packages }: Lockfile = JSON.parse(await readFile(new URL('../../package-lock.json', import.meta.url), 'utf8'));

test('npm ci does not install @scarf/scarf, which sends telemetry', () => {
  const scarf = Object.entries(packages).filter(([path]) => path.endsWith('@scarf/scarf'));
  expect(scarf.map(([, { name, hasInstallScript }]) => [name, hasInstallScript])).toEqual([
    ['@favware/skip-dependency', undefined],
  ]);
});

test('the lockfile names no registry, so that npm ci uses the configured one', () => {
  expect(Object.values(packages).filter(({ resolved }) => resolved?.startsWith('http'))).toEqual([]);
});

/** Without npm's variables, which hold the settings of the surrounding `npm test`. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
const npm = async (...args: string[]) => {
  const cwd = fileURLToPath(new URL('../..', import.meta.url));
  return (await promisify(execFile)('npm', args, { cwd, env, maxBuffer: 64 * 1024 ** 2 })).stdout;
};

test('no install script of a dependency runs', async () => {
  expect((await npm('config', 'get', 'ignore-scripts')).trim()).toBe('true');
});

test('npm run sbom names everything that the product is made of, with the versions and hashes of the lockfile, and nothing else', async () => {
  const { components }: { components: Component[] } = JSON.parse(await npm('run', '-s', 'sbom'));
  const names = components.map(({ name }) => name);
  const product = [
    'hono',
    '@trpc/server',
    'jose',
    'valibot',
    'mysql2',
    'pino',
    '@temporalio/worker',
    '@planetscale/database',
  ];
  expect(names).toEqual(expect.arrayContaining(product));
  for (const name of ['vitest', 'wrangler', '@temporalio/testing', 'knip', 'drizzle-kit'])
    expect(names).not.toContain(name);

  const known = Object.entries(packages).map(([path, { version, integrity = '' }]) => {
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
    return `${name}@${version} ${Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex')}`;
  });
  const named = components.map(({ name, version, hashes = [] }) => `${name}@${version} ${hashes[0]?.content}`);
  expect(named.filter((component) => !known.includes(component))).toEqual([]);
});
