/** Finds, fetches and runs the programs that the stack consists of. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { access, constants, mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import envPaths from 'env-paths';

/** Runs a command to its end; its output goes to stderr if `show`. Throws an Error with the last lines of its output if it fails. */
export async function run(command: string, args: string[], { env = process.env, show = false } = {}): Promise<void> {
  const child = spawn(command, args, { env, stdio: ['ignore', show ? 2 : 'pipe', show ? 2 : 'pipe'] });
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (printed += chunk));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error([`${command} failed (${code})`, ...printed.trim().split('\n').slice(-5)].join('\n'));
}

/** Runs a command to its end; resolves with what it printed on stdout. Throws an Error with the end of its stderr if it fails. */
export async function read(command: string, args: string[], env = process.env): Promise<string> {
  try {
    return (await promisify(execFile)(command, args, { env, maxBuffer: 64 * 1024 ** 2 })).stdout;
  } catch (cause) {
    const { stderr = '', message } = cause as { stderr?: string; message: string };
    const end = stderr.trim().split('\n').slice(-5);
    throw new Error([`${command} failed`, ...(stderr === '' ? [message] : end)].join('\n'), { cause });
  }
}

/** The folder with a package from PyPI, such as `name==1.0`, and its dependencies, for PYTHONPATH. Nothing of theirs runs while they are installed. */
export function pythonPackage(requirement: string): Promise<string> {
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary=:all:', '--target'];
  return cached(`python-${requirement}-${process.platform}-${process.arch}`, (draft) =>
    run('python3', [...pip, draft, requirement]),
  );
}

/** The first executable file with one of these names in `folders`, by default PATH; undefined if there is none. */
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
 * The path of a folder in the user's cache, which `make` fills when it is absent. It is filled as a private draft and then
 * renamed, so that interrupted or concurrent first runs never leave a partial one. Throws what `make` throws.
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
