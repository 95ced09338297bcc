/** Servers that are published as source: built once with Go into the user's cache. */
import { cp, mkdir } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { cached, findExecutable, read, run } from '@trellis/local/stack/programs';

/**
 * The folder whose `bin` has the programs of a Go module's packages, and that also has `folders` of its source. The first
 * build takes up to a quarter of an hour. Throws an Error when there is no Go.
 */
export async function goPrograms(
  name: string,
  module: string,
  version: string,
  packages: string[],
  say: (line: string) => void,
  folders: string[] = [],
): Promise<string> {
  return cached(`${name}-${version}-${process.platform}-${process.arch}`, async (draft) => {
    say(`building ${name} ${version} with Go: minutes the first time…`);
    const bin = join(draft, 'bin');
    await mkdir(bin, { recursive: true });
    const { go, env: found } = await findGo();
    const env = { ...found, GOBIN: bin };
    const { Dir: source } = JSON.parse(await read(go, ['mod', 'download', '-json', `${module}@${version}`], env));
    // As the main module: Go installs no program of a foreign one that excludes some versions of what it needs.
    await run(go, ['-C', source, 'install', ...packages.map((path) => `./${path}`)], { env });
    for (const folder of folders) await cp(join(source, folder), join(draft, folder), { recursive: true });
  });
}

/** The program and its environment. Throws an Error when there is none. */
async function findGo(): Promise<{ go: string; env: NodeJS.ProcessEnv }> {
  const go = (await findExecutable(['go'])) ?? (await findExecutable(['go'], ['/usr/local/go/bin', '/usr/lib/go/bin']));
  if (!go) throw new Error('there is no Go');
  return { go, env: { ...process.env, PATH: `${dirname(go)}${delimiter}${process.env.PATH}` } };
}

/** Tests the Go module of a folder and builds its program as `file`. What was built before is in Go's own cache. */
export async function testAndBuild(folder: string, file: string): Promise<void> {
  const { go, env } = await findGo();
  for (const work of [
    ['vet', './...'],
    ['test', './...'],
    ['build', '-o', file, '.'],
  ])
    await run(go, ['-C', folder, ...work], { env });
}
