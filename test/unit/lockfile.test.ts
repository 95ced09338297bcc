import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';

interface Lockfile {
  packages: Record<string, { name?: string; resolved?: string; hasInstallScript?: boolean }>;
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
