/** The linter holds the import directions: each folder's entry in biome.json refuses what docs/architecture.md says it must not import. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const biome = createRequire(import.meta.url).resolve('@biomejs/biome/bin/biome');

const REFUSED = [
  ['contracts', 'node:fs'],
  ['contracts', './config/variables.ts'],
  ['contracts', '@trellis/drizzle/orders'],
  ['contracts', '../drizzle/orders.ts'],
  ['contracts/config', '@trellis/workers/create-worker'],
  ['drizzle', '@trellis/api/http/app'],
  ['drizzle', './sandbox/books.ts'],
  ['drizzle', '../workers/pricing.ts'],
  ['drizzle/sandbox', '@trellis/workers/providers/carrier'],
  ['api', '@trellis/workers/activities/index'],
  ['api/http', '@trellis/drizzle/sandbox/books'],
  ['api/http', '../../workers/pricing.ts'],
  ['api/client', '@trellis/drizzle/orders'],
  ['api/orders', '../http/responses.ts'],
  ['api/orders', '@temporalio/client'],
  ['api/orders', '../temporal/grpc.ts'],
  ['api/temporal', '../orders/errors.ts'],
  ['api/temporal', '@trellis/drizzle/orders'],
  ['workers', '@trellis/api/http/app'],
  ['workers/activities', '../../api/node.ts'],
  ['workers/jobs', '@trellis/local/stack/stack'],
  ['workers/providers', '../activities/attempt.ts'],
  ['workers/providers/sandbox', '@temporalio/activity'],
  ['workers/workflows', '@trellis/drizzle/orders'],
  ['workers/workflows', '../create-worker.ts'],
  ['workers/workflows', 'valibot'],
  ['workers/workflows', 'node:crypto'],
  ['build', '@trellis/local/options'],
  ['local', '../test/fixtures.ts'],
  ['local/stack', '../../test/fixtures.ts'],
] as const;

const ALLOWED = [
  ['drizzle/sandbox', '../columns.ts'],
  ['api/orders', '../temporal/port.ts'],
  ['api/http', '../orders/router.ts'],
  ['workers/activities', '../providers/carrier.ts'],
  ['workers/workflows', '@trellis/contracts/order'],
  ['build', '@trellis/workers/workflow-bundle'],
  ['local/stack', '../options.ts'],
  ['test/stack', '@trellis/local/stack/stack'],
] as const;

test('every import against the directions is an error, and those along them are none', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'trellis-imports-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const file of ['biome.json', '.gitignore']) await cp(join(ROOT, file), join(folder, file));
  const imports = [...REFUSED, ...ALLOWED].map(([at, imported], n) => ({ path: `${at}/import-${n}.ts`, imported }));
  for (const { path, imported } of imports) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), `import '${imported}';\n`);
  }
  const report = await lint(folder);
  const refused = imports.filter(({ path }) => report.includes(`${path}:1:`));
  expect(refused.map(({ imported }) => imported)).toEqual(REFUSED.map(([, imported]) => imported));
});

/** What the linter prints about a folder, one line for each error. */
function lint(folder: string): Promise<string> {
  const args = [biome, 'lint', '--only=style/noRestrictedImports', '--max-diagnostics=none', '.'];
  return new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: folder, maxBuffer: 2 ** 24 }, (_, stdout, stderr) =>
      resolve(stdout + stderr),
    );
  });
}
