/**
 * `npm run edge:build`: the API's program for edge runtimes, which wrangler runs and deploys as it is. By Rolldown, whose minified code
 * is 7 % smaller with gzip than that of wrangler's own bundler.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readCommandLine } from '@trellis/contracts/config/command-line';
import { type OutputChunk, rolldown } from 'rolldown';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Builds a program for workerd from a source of this repository. Rejects when it would need more than one file. */
export async function buildEdge(source = 'api/edge.ts'): Promise<OutputChunk> {
  const bundle = await rolldown({
    cwd: ROOT,
    input: source,
    platform: 'browser',
    resolve: { conditionNames: ['workerd', 'worker', 'browser'] },
    transform: { target: 'es2024' },
    external: /^(node|cloudflare):/,
  });
  const { output } = await bundle.generate({ format: 'esm', minify: true, comments: { legal: false } });
  await bundle.close();
  const [chunk, ...others] = output;
  if (others.length > 0) throw new Error(`${source} does not fit into one file`);
  return chunk;
}

/** Leaves a file of the same content alone, as wrangler restarts the API of whoever runs it when it changes. */
async function write(folder: string, name: string, text: string): Promise<void> {
  const file = join(folder, name);
  if ((await readFile(file, 'utf8').catch(() => undefined)) === text) return;
  await mkdir(folder, { recursive: true });
  const whole = `${file}.${process.pid}`;
  await writeFile(whole, text);
  await rename(whole, file);
}

if (import.meta.main) {
  readCommandLine('npm run edge:build', 'Build the API for edge runtimes into .local/worker/.');
  await write(join(ROOT, '.local/worker'), 'edge.js', (await buildEdge()).code);
}
