/**
 * What `npm pack` runs in a workspace that others install: `prepack` builds its modules into `dist/` and writes the
 * manifest of the tarball over package.json, `postpack` (`--restore`) puts the original back. In the repository nothing is
 * built: there package.json exports the sources. A modules' folder is not read recursively: `config/` stays out.
 */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript5';
import { plainTypes } from './plain-types.ts';

interface Manifest extends Record<string, unknown> {
  name: string;
  dependencies: Record<string, string>;
  /** The dependencies of the tarball; absent means all. */
  packedDependencies?: string[];
}

const MANIFEST = 'package.json';
const kept = fileURLToPath(new URL(`../.local/pack/${basename(resolve())}.json`, import.meta.url));

if (process.argv[2] === '--restore') await restore();
else {
  // A run that was killed may have left the tarball's manifest.
  await restore();
  const modules = (await readdir('.')).filter((file) => file.endsWith('.ts'));
  await build(modules);
  await mkdir(join(kept, '..'), { recursive: true });
  await copyFile(MANIFEST, kept);
  await writeFile(MANIFEST, `${JSON.stringify(packed(await readManifest(), modules), null, 2)}\n`);
}

async function readManifest(): Promise<Manifest> {
  return JSON.parse(await readFile(MANIFEST, 'utf8'));
}

async function restore(): Promise<void> {
  if (!existsSync(kept)) return;
  // The original has scripts, the tarball's has none: an edit made since is never lost.
  if (!(await readManifest()).scripts) await copyFile(kept, MANIFEST);
  await rm(kept);
}

/** The tarball's manifest: built files, and versions that the installing project may raise. */
function packed(source: Manifest, modules: string[]): Manifest {
  const { private: _, scripts, devDependencies, packedDependencies, exports, dependencies, ...rest } = source;
  const names = packedDependencies ?? Object.keys(dependencies);
  const entry = (name: string) => ({ types: `./dist/${name}.d.ts`, default: `./dist/${name}.js` });
  const published = modules.includes('index.ts')
    ? { '.': entry('index') }
    : Object.fromEntries(modules.map((file) => [`./${basename(file, '.ts')}`, entry(basename(file, '.ts'))]));
  return {
    ...rest,
    exports: published,
    dependencies: Object.fromEntries(names.map((name) => [name, `^${dependencies[name]}`])),
  };
}

/** Writes `dist/`: a .js and a .d.ts for each module. Throws with the compiler's messages. */
async function build(modules: string[]): Promise<void> {
  const options: ts.CompilerOptions = {
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
  const program = ts.createProgram(modules, options);
  const problems = modules.flatMap((file) => ts.getPreEmitDiagnostics(program, program.getSourceFile(file)));
  if (problems.length > 0)
    throw new Error(
      ts.formatDiagnostics(problems, {
        getCurrentDirectory: () => process.cwd(),
        getCanonicalFileName: (name) => name,
        getNewLine: () => '\n',
      }),
    );
  await rm('dist', { recursive: true, force: true });
  await mkdir('dist');
  const files = new Map<string, string>();
  for (const file of modules)
    program.emit(program.getSourceFile(file), (name, text) => files.set(basename(name), text));
  if (modules.includes('index.ts')) {
    files.set('types.d.ts', plainTypes(program, 'types.ts'));
    files.delete('types.js');
  }
  for (const [name, text] of files)
    await writeFile(
      join('dist', name),
      name.endsWith('.d.ts') ? text.replace(/(from '\.\/[^']+)\.ts'/g, "$1.js'") : text,
    );
}
