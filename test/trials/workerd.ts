/** Builds the API for the edge as for a deployment and runs it in workerd directly: what wrangler and Miniflare add in front would dominate the measurements. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import type { Readable } from 'node:stream';
import { buildEdge } from '@trellis/build/edge';
import { CONFIG } from '@trellis/local/stack/edge-server';

export interface Bundle {
  file: string;
  code: string;
  /** The paths of its sources. */
  modules: string[];
  /** What it imports when it runs. */
  imports: string[];
}

export interface Workerd {
  pid: number;
  url: string;
  /** Milliseconds from the start of the process to its first answer. */
  coldStart: number;
  stop(): Promise<void>;
}

const workerd: string = createRequire(createRequire(import.meta.url).resolve('wrangler/package.json'))(
  'workerd',
).default;
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Builds the API, or another source with the same settings. */
export async function bundleWorker(folder: string, source?: string): Promise<Bundle> {
  const { code, moduleIds, imports, dynamicImports } = await buildEdge(source);
  const file = join(folder, 'worker.js');
  await mkdir(folder, { recursive: true });
  await writeFile(file, code);
  return { file, code, modules: moduleIds, imports: [...imports, ...dynamicImports] };
}

/** Starts a bundle with these variables. Resolves once it has answered to GET /health. */
export async function startWorkerd({ file }: Bundle, variables: Record<string, string>): Promise<Workerd> {
  await writeFile(`${file}.capnp`, await configOf(file, variables));
  const began = performance.now();
  const args = ['serve', '--control-fd=3', `${file}.capnp`];
  // Its stdout is the access log.
  const child = spawn(workerd, args, { stdio: ['ignore', 'ignore', 'inherit', 'pipe'] });
  running.add(child);
  const exited = once(child, 'exit').finally(() => running.delete(child));
  const failed = exited.then(() => Promise.reject(new Error('workerd exited before it listened')));
  const [listening] = await Promise.race([once(child.stdio[3] as Readable, 'data'), failed]);
  const url = `http://127.0.0.1:${JSON.parse(`${listening}`).port}`;
  const { ok } = await fetch(`${url}/health`);
  const coldStart = performance.now() - began;
  if (!ok) throw new Error(`${file}: GET /health failed`);
  const stop = async () => {
    child.kill();
    await exited;
  };
  return { pid: child.pid ?? 0, url, coldStart, stop };
}

async function configOf(file: string, variables: Record<string, string>): Promise<string> {
  const settings = await readFile(CONFIG, 'utf8');
  const [, date] = /^compatibility_date = "(.+)"$/m.exec(settings) ?? [];
  const [, flags = ''] = /^compatibility_flags = \[(.*)\]$/m.exec(settings) ?? [];
  const bindings = Object.entries(variables).map(
    ([name, text]) => `(name = "${name}", text = ${JSON.stringify(text)})`,
  );
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "worker", worker = (
      modules = [(name = "worker", esModule = embed "${basename(file)}")],
      compatibilityDate = "${date}",
      compatibilityFlags = [${flags}],
      bindings = [${bindings}],
      globalOutbound = "here")),
    (name = "here", network = (allow = ["local"]))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "worker")]);
`;
}
