import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { holdLock, reap, releaseLock } from './processes.ts';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** The folder of `npm start`, which keeps its data. */
export const LOCAL = join(ROOT, '.local');

/** The mode of a file that holds a password. */
export const PRIVATE_FILE = 0o600;

/** A folder for a stack whose data is not kept, unless it shows what went wrong. */
interface ThrowAwayFolder {
  folder: string;
  remove(): Promise<void>;
  /** Moves it to `.local/kept`, in place of the one that was kept before. Returns that path. */
  keep(): Promise<string>;
}

/** Creates a throw-away folder. First removes the folders and stops the processes that killed launchers left behind. */
export async function throwAwayFolder(say: (line: string) => void): Promise<ThrowAwayFolder> {
  const parent = join(LOCAL, 'throw-away');
  await mkdir(parent, { recursive: true });
  for (const name of await readdir(parent)) {
    const left = join(parent, name);
    if (!(await holdLock(left, 'stack'))) continue;
    for (const service of await reap(left)) say(`stopped ${service}, left over from an earlier run`);
    await releaseLock(left, 'stack');
    await rm(left, { recursive: true, force: true });
  }
  const folder = await mkdtemp(join(parent, 'stack-'));
  await holdLock(folder, 'stack');
  return {
    folder,
    async remove() {
      await releaseLock(folder, 'stack');
      await rm(folder, { recursive: true, force: true });
    },
    async keep() {
      await releaseLock(folder, 'stack');
      const kept = join(LOCAL, 'kept');
      await rm(kept, { recursive: true, force: true });
      await rename(folder, kept);
      return kept;
    },
  };
}
