/** What `npm run build` makes: programs that run without the sources, and with few of the packages that are installed. */
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, SOURCES } from '@trellis/build/build';
import { afterAll, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'build/package.json'), 'utf8'));
const folder = mkdtempSync(join(tmpdir(), 'trellis-build-'));
afterAll(() => rmSync(folder, { recursive: true }));
const dist = join(folder, 'dist');
await build(dist);
for (const name of Object.keys(dependencies)) {
  const link = join(folder, 'node_modules', name);
  mkdirSync(dirname(link), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules', name), link);
}

test.each(
  Object.keys(SOURCES),
)('%s loads from the built files and the dependencies of the workspace `build`', (name) => {
  const { stdout, stderr } = spawnSync(process.execPath, [join(dist, `${name}.js`), '--help'], { encoding: 'utf8' });
  expect(stderr).toBe('');
  expect(stdout).toContain(`Usage: npm run ${name} `);
});

test.each(Object.entries(SOURCES))('%s has a source map that names %s', (name, source) => {
  const { sources } = JSON.parse(readFileSync(join(dist, `${name}.js.map`), 'utf8'));
  expect(sources.map((path: string) => join(dist, path))).toContain(join(ROOT, source));
});

test('the programs are no larger than they were', () => {
  const kilobytes = (pattern: RegExp) => {
    const files = readdirSync(dist).filter((file) => pattern.test(file));
    return files.reduce((sum, file) => sum + statSync(join(dist, file)).size, 0) / 1_000;
  };
  expect(kilobytes(/^workflows\.js$/)).toBeLessThan(800);
  expect(kilobytes(/^(worker|payload-converter)\.js$/)).toBeLessThan(1_700);
  expect(kilobytes(/\.js$/)).toBeLessThan(7_000);
  expect(kilobytes(/\.map$/)).toBeLessThan(3_500);
});

test.each([
  ['api', 0],
  ['worker', 650],
  ['migrate', 0],
  ['audit', 0],
  ['prune', 0],
])('%s loads no more than %i files of packages when it starts', (name, most) => {
  const counter = join(folder, 'count.cjs');
  writeFileSync(counter, "process.on('exit', () => console.error(Object.keys(require.cache).length - 1));");
  const args = ['--require', counter, join(dist, `${name}.js`), '--help'];
  const { stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(Number(stderr)).toBeLessThanOrEqual(most);
});

test('a text of the workflows takes one byte for each character', () => {
  expect(readFileSync(join(dist, 'workflows.js'), 'utf8')).toMatch(/^[\0-\x7f]*$/);
});
