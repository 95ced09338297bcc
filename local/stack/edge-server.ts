/** The API on workerd, the runtime that edge deployments run on, through wrangler. */
import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseEnv } from 'node:util';
import pRetry from 'p-retry';
import { type Service, startProcess } from './processes.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const CONFIG = join(ROOT, 'wrangler.toml');
/** Keeps wrangler from reporting to its makers, and from asking them for what only a deployment needs. */
const OFFLINE = { WRANGLER_SEND_METRICS: 'false', CLOUDFLARE_CF_FETCH_ENABLED: 'false' };

const wrangler = join(dirname(createRequire(import.meta.url).resolve('wrangler/package.json')), 'bin/wrangler.js');

/** How to run wrangler with Node: its arguments come behind these. */
export const WRANGLER = { args: [wrangler], env: { ...process.env, ...OFFLINE } };

/**
 * Starts the API of `wrangler.toml` on 127.0.0.1:port, before a local Temporal and database, with what `settings` say of
 * the API. Resolves once it answers.
 */
export async function startEdge(options: {
  folder: string;
  port: number;
  temporal: string;
  database: string;
  settings: NodeJS.ProcessEnv;
  name?: string;
}): Promise<Service> {
  const { folder, port, temporal, database, settings, name = 'edge' } = options;
  // As the API on Node reads them: the environment, and behind it a file.
  const fromFile = parseEnv(await readFile(join(ROOT, '.env'), 'utf8').catch(() => ''));
  const { POLICY = 'exercise', CORS_ORIGINS = '' } = { ...fromFile, ...settings };
  const variables = { POLICY, CORS_ORIGINS, TEMPORAL_ADDRESS: temporal, DATABASE_URL: database };
  const file = resolve(folder, `${name}.env`);
  await writeFile(
    file,
    Object.entries(variables)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  );
  const probe = async (signal: AbortSignal) => {
    const { ok } = await fetch(`http://127.0.0.1:${port}/health`, { signal });
    if (!ok) throw new Error('is not well');
  };
  return startProcess(folder, {
    name,
    cwd: ROOT,
    command: process.execPath,
    args: [
      ...WRANGLER.args,
      ...['dev', '--config', CONFIG, '--env-file', file, '--ip', '127.0.0.1', '--port', `${port}`],
      ...[
        '--inspector-port',
        '0',
        '--show-interactive-dev-session=false',
        '--persist-to',
        resolve(folder, `${name}-state`),
      ],
    ],
    env: WRANGLER.env,
    readyWithin: 60_000,
    ready: (signal) =>
      pRetry(() => probe(signal), { retries: Number.POSITIVE_INFINITY, factor: 1, minTimeout: 100, signal }),
  });
}
