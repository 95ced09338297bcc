/**
 * `npm run -s sbom`: prints the product's bill of materials, in CycloneDX: what an image or an edge bundle is made of, with the versions and
 * hashes of package-lock.json. npm itself would add what the tests need, and fails when it is asked for some workspaces only; so it
 * is given a project that depends on what these workspaces depend on.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { script } from './options.ts';
import { ROOT } from './stack/folder.ts';
import { read } from './stack/programs.ts';

/** Those of the Dockerfile. */
const WORKSPACES = ['contracts', 'drizzle', 'api', 'workers', 'build'];

interface Manifest {
  name: string;
  version: string;
  license: string;
  dependencies: Record<string, string>;
  overrides: object;
}
interface Lockfile {
  packages: Record<string, { link?: boolean }>;
}

script('npm run -s sbom', 'Print the bill of materials of the product, in CycloneDX.').parse();

const json = async <T>(path: string): Promise<T> => JSON.parse(await readFile(join(ROOT, path), 'utf8'));
const manifests = await Promise.all(WORKSPACES.map((folder) => json<Manifest>(`${folder}/package.json`)));
const needed = manifests.flatMap((manifest) => Object.entries(manifest.dependencies));
const dependencies = Object.fromEntries(needed.filter(([name]) => !name.startsWith('@trellis/')));
const { name, version, license, overrides } = await json<Manifest>('package.json');
const { packages, ...lock } = await json<Lockfile>('package-lock.json');
const known = Object.entries(packages).filter(([path, { link }]) => path.startsWith('node_modules/') && !link);
const project = { name, version, license, dependencies };

const parent = await mkdtemp(join(tmpdir(), 'sbom-'));
try {
  const folder = join(parent, name);
  await mkdir(folder);
  await writeFile(join(folder, 'package.json'), JSON.stringify({ ...project, overrides }));
  const lockfile = { ...lock, packages: { '': project, ...Object.fromEntries(known) } };
  await writeFile(join(folder, 'package-lock.json'), JSON.stringify(lockfile));
  const npm = (...args: string[]) => read('npm', ['--prefix', folder, ...args, '--package-lock-only']);
  // Takes what nothing in this project depends on out of its lockfile.
  await npm('install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund');
  process.stdout.write(await npm('sbom', '--sbom-format=cyclonedx'));
} finally {
  await rm(parent, { recursive: true });
}
