/** Finds, fetches and runs the programs that the stack is made of. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { access, constants, mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import envPaths from 'env-paths';

/** Runs a command to its end, on our stderr if `show`. Throws an Error with the last lines it printed. */
export async function run(command: string, args: string[], { env = process.env, show = false } = {}): Promise<void> {
  const child = spawn(command, args, { env, stdio: ['ignore', show ? 2 : 'pipe', show ? 2 : 'pipe'] });
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (printed += chunk));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error([`${command} failed (${code})`, ...printed.trim().split('\n').slice(-5)].join('\n'));
}

/** The folder of a package from PyPI, such as `name==1.0`, with what it needs: for PYTHONPATH. */
export function pythonPackage(requirement: string): Promise<string> {
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--target'];
  return cached(`python-${requirement}-${process.platform}-${process.arch}`, (draft) =>
    run('python3', [...pip, draft, requirement]),
  );
}

/** The first executable file of one of these names, undefined if there is none. Looks on PATH unless told where. */
export async function findExecutable(
  names: string[],
  folders = (process.env.PATH ?? '').split(delimiter),
): Promise<string | undefined> {
  for (const path of names.flatMap((name) => folders.map((folder) => join(folder, name)))) {
    const file = await access(path, constants.X_OK).then(
      () => stat(path),
      () => undefined,
    );
    if (file?.isFile()) return path;
  }
  return undefined;
}

/**
 * The path of a folder in the user's cache. `make` fills it when it is absent: a private draft first, moved in place in
 * one step, so that neither an interruption nor two first runs at once leave half of one. Throws what `make` throws.
 */
export async function cached(name: string, make: (draft: string) => Promise<void>): Promise<string> {
  const { cache } = envPaths('trellis-orders', { suffix: '' });
  const place = join(cache, name);
  if (existsSync(place)) return place;
  await mkdir(cache, { recursive: true });
  const draft = await mkdtemp(join(cache, `draft-${name}-`));
  try {
    await make(draft);
    await rename(draft, place).catch((error) => {
      if (!existsSync(place)) throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return place;
}
