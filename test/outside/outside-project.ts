/** A project in a folder outside the repository, with the packed packages installed as their users install them. */
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));

/** Without npm's variables: npm would use the settings of the surrounding `npm test`. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));

/** Runs a command to its end and returns what it printed on stdout. Throws an Error with everything it printed. */
export async function printed(command: string, args: string[], cwd: string, more: NodeJS.ProcessEnv = {}) {
  try {
    return (await promisify(execFile)(command, args, { cwd, env: { ...env, ...more } })).stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error([[command, ...args].join(' '), stdout, stderr].join('\n'), { cause: error });
  }
}

export interface OutsideProject {
  folder: string;
  /** The files of the packed packages. */
  tarballs: { client: string; contracts: string };
  /** The packages' package.json in the packed sources, as packing left them. */
  manifests: { client: string; contracts: string };
  /** Runs a program that the project has installed. */
  run(program: string, ...args: string[]): Promise<string>;
  remove(): Promise<void>;
}

/** Packs both packages in a copy of the sources: packing changes manifests for a moment, and other tests start programs. */
async function packInto(folder: string): Promise<OutsideProject['manifests']> {
  const copy = await mkdtemp(join(tmpdir(), 'trellis-pack-'));
  try {
    for (const name of ['package.json', '.npmrc', 'contracts', 'drizzle', 'api', 'workers', 'local'])
      await cp(join(REPOSITORY, name), join(copy, name), { recursive: true });
    await symlink(join(REPOSITORY, 'node_modules'), join(copy, 'node_modules'));
    const pack = ['pack', '--ignore-scripts=false', '-w', '@trellis/client', '-w', '@trellis/contracts'];
    await printed('npm', [...pack, '--pack-destination', folder], copy);
    const manifest = (at: string) => readFile(join(copy, at, 'package.json'), 'utf8');
    return { client: await manifest('api/client'), contracts: await manifest('contracts') };
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

/** A copy of `project/` with both packages, and with the example of each one's README as a module. */
export async function outsideProject(): Promise<OutsideProject> {
  const folder = await mkdtemp(join(tmpdir(), 'trellis-outside-'));
  await cp(fileURLToPath(new URL('project', import.meta.url)), folder, { recursive: true });
  const manifests = await packInto(folder);
  const packed = await readdir(folder);
  const tarball = (name: string) => {
    const file = packed.find((entry) => entry.startsWith(`trellis-${name}-`));
    if (!file) throw new Error(`npm pack made no tarball of ${name}`);
    return join(folder, file);
  };
  const tarballs = { client: tarball('client'), contracts: tarball('contracts') };
  const options = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--no-package-lock'];
  await printed('npm', ['install', ...options, tarballs.client, tarballs.contracts], folder);
  for (const name of ['client', 'contracts'] as const) {
    const readme = await readFile(join(folder, 'node_modules/@trellis', name, 'README.md'), 'utf8');
    const [, example] = /```ts\n(.*?)```/s.exec(readme) ?? [];
    if (!example) throw new Error(`the README of ${name} has no example`);
    await writeFile(join(folder, `${name}-example.ts`), example);
  }
  return {
    folder,
    tarballs,
    manifests,
    run: (program, ...args) => printed(process.execPath, [join(folder, 'node_modules', program), ...args], folder),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
