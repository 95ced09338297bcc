/**
 * What `npm pack --ignore-scripts=false` runs in a workspace that others install: `prepack` builds its public modules into `dist/` and writes
 * the tarball's manifest over package.json, `postpack` (`--restore`) puts the original back. In the repository nothing is
 * built: there package.json exports the sources.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript5';
import { plainTypes } from './plain-types.ts';

interface Manifest extends Record<string, unknown> {
  dependencies: Record<string, string>;
  /** The modules that the tarball exports, by the names of their source files, and the dependencies that they need. */
  packed: { modules: string[]; dependencies: string[] };
}

const OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2024.d.ts'],
  types: ['node'],
  module: ts.ModuleKind.NodeNext,
  strict: true,
  exactOptionalPropertyTypes: true,
  verbatimModuleSyntax: true,
  skipLibCheck: true,
  resolveJsonModule: true,
  declaration: true,
  allowImportingTsExtensions: true,
  rewriteRelativeImportExtensions: true,
};

const MANIFEST = 'package.json';
const backup = fileURLToPath(new URL(`../.local/pack/${basename(resolve())}.json`, import.meta.url));

if (process.argv[2] === '--restore') await restore();
else {
  // A run that was killed may have left the tarball's manifest.
  await restore();
  const source = await readManifest();
  await build(source.packed.modules);
  await mkdir(dirname(backup), { recursive: true });
  await copyFile(MANIFEST, backup);
  await writeFile(MANIFEST, `${JSON.stringify(manifestOfTarball(source), null, 2)}\n`);
}

async function readManifest(): Promise<Manifest> {
  return JSON.parse(await readFile(MANIFEST, 'utf8'));
}

async function restore(): Promise<void> {
  if (!existsSync(backup)) return;
  // A manifest with scripts is the original, perhaps edited since, and is not overwritten: the tarball's has none.
  if (!(await readManifest()).scripts) await copyFile(backup, MANIFEST);
  await rm(backup);
}

/** The tarball's package.json: it exports the built files and allows later versions of the dependencies. */
function manifestOfTarball(source: Manifest): Record<string, unknown> {
  const { private: _, scripts, devDependencies, dependencies, packed, ...rest } = source;
  const entries = packed.modules.map((name) => [
    name === 'index' ? '.' : `./${name}`,
    { types: `./dist/${name}.d.ts`, default: `./dist/${name}.js` },
  ]);
  return {
    ...rest,
    exports: Object.fromEntries(entries),
    dependencies: Object.fromEntries(packed.dependencies.map((name) => [name, `^${dependencies[name]}`])),
  };
}

/** Writes `dist/`: a .js and a .d.ts of each module and of what it imports from this folder. Throws the compiler's messages. */
async function build(modules: string[]): Promise<void> {
  const program = ts.createProgram(
    modules.map((name) => `${name}.ts`),
    OPTIONS,
  );
  const sources = program.getSourceFiles().filter(({ fileName }) => dirname(resolve(fileName)) === resolve());
  const problems = sources.flatMap((source) => ts.getPreEmitDiagnostics(program, source));
  if (problems.length > 0) {
    const host = ts.createCompilerHost(OPTIONS);
    throw new Error(ts.formatDiagnostics(problems, host));
  }
  await rm('dist', { recursive: true, force: true });
  await mkdir('dist');
  const write = (name: string, text: string) =>
    writeFileSync(join('dist', basename(name)), text.replace(/(from '\.\/[\w-]+)\.ts'/g, "$1.js'"));
  for (const source of sources) {
    // These are derived from the server's types and must not import them.
    if (basename(source.fileName) === 'types.ts') write('types.d.ts', plainTypes(program, source));
    else program.emit(source, write);
  }
}
