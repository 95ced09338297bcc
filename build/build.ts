/**
 * `npm run build`: what production runs, in `dist/`. A built program starts several times faster than its sources and takes a fraction
 * of their memory. Each file has a source map beside it, which `node --enable-source-maps` reads.
 */
import { cp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readCommandLine } from '@trellis/contracts/config/command-line';
import { workflowBundle } from '@trellis/workers/workflow-bundle';
import { type BuildOptions, build as bundle } from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** `dist/<name>.js` is built from this source; `npm run <name>` runs the source itself. */
export const SOURCES = {
  api: 'api/node.ts',
  worker: 'workers/main.ts',
  migrate: 'drizzle/migrate.ts',
  audit: 'drizzle/sandbox/audit.ts',
  prune: 'workers/prune.ts',
  prices: 'drizzle/import-prices.ts',
} as const;

/** Files that the programs read, from the sources to the names that these give relative to themselves. */
const FILES = {
  'api/http/docs.html': 'docs.html',
  'drizzle/migrations': 'migrations',
  'drizzle/sandbox/migrations': 'sandbox/migrations',
};

const OPTIONS: BuildOptions = {
  absWorkingDir: ROOT,
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  splitting: true,
  // The text of a program stays in its memory.
  minifyWhitespace: true,
  minifySyntax: true,
  // Activities and errors are known by their names.
  keepNames: true,
  sourcemap: true,
  // The texts are in the repository.
  sourcesContent: false,
  // For the `require` of bundled CommonJS modules.
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module';\nconst require = requireFrom(import.meta.url);",
  },
};

/** Builds all programs into the folder, which must be inside the repository or beside the dependencies of this workspace. Replaces what is in it. */
export async function build(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  const { worker, ...others } = SOURCES;
  await Promise.all([
    // Swagger UI's files are served as they are. Kept names cost the API a quarter of its requests a second: each closure is given its own.
    bundle({ ...OPTIONS, outdir: folder, entryPoints: others, keepNames: false, external: ['swagger-ui-dist'] }),
    // The SDK finds its native library and its threads' code in its own packages.
    bundle({
      ...OPTIONS,
      outdir: folder,
      entryPoints: {
        worker,
        'payload-converter': 'workers/payload-converter.ts',
        'one-watchdog': 'workers/one-watchdog.ts',
      },
      external: ['@temporalio/*'],
      conditions: ['built'],
    }),
    workflowBundle().then(({ code }) => writeFile(join(folder, 'workflows.js'), escaped(code))),
    ...Object.entries(FILES).map(([from, to]) => cp(join(ROOT, from), join(folder, to), { recursive: true })),
  ]);
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }\n');
}

/** The same program without characters beyond ASCII: with them, V8 keeps two bytes for each character of the text. */
const escaped = (code: string): string =>
  code.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);

if (import.meta.main) {
  readCommandLine('npm run build', 'Build the programs into dist/.');
  await build(join(ROOT, 'dist'));
  process.stdout.write('dist/ is built: node dist/api.js, worker.js, migrate.js, audit.js, prices.js, prune.js\n');
}
