/** The API on workerd, the runtime that edge deployments run on, through wrangler. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import pRetry from 'p-retry';
import { PRIVATE_FILE, ROOT } from './folder.ts';
import { programVariables } from './node-programs.ts';
import { type Service, startProcess } from './processes.ts';

export const CONFIG = join(ROOT, 'wrangler.toml');
/** Turns off wrangler's telemetry and the download of a file that only deployments need. */
const OFFLINE = { WRANGLER_SEND_METRICS: 'false', CLOUDFLARE_CF_FETCH_ENABLED: 'false' };

const wrangler = join(dirname(createRequire(import.meta.url).resolve('wrangler/package.json')), 'bin/wrangler.js');

/** The arguments and the environment with which Node runs wrangler; wrangler's own arguments follow `args`. */
export const WRANGLER = { args: [wrangler], env: { ...process.env, ...OFFLINE } };

/** The variables that say how the API behaves. */
const OWN = [
  'POLICY',
  'CORS_ORIGINS',
  'AUTH',
  'AUTH_ISSUERS',
  'AUTH_PUBLIC_KEYS',
  'AUTH_AUDIENCE',
  'ENCRYPTION_KEYS',
  'ENCRYPT',
  'TEMPORAL_NAMESPACE',
];

/**
 * Starts the API of `wrangler.toml` on 127.0.0.1:port, with a local Temporal and database behind it and the API's own
 * variables from `settings`, else from `.env`. Resolves once it answers.
 */
export async function startEdge(options: {
  folder: string;
  port: number;
  temporal: string;
  database: string;
  settings: NodeJS.ProcessEnv;
}): Promise<Service> {
  const { folder, port, temporal, database, settings } = options;
  const known: NodeJS.ProcessEnv = {
    AUTH: 'off',
    TEMPORAL_NAMESPACE: 'default',
    ...(await programVariables()),
    ENCRYPTION_KEYS: '',
    ENCRYPT: '',
    ...settings,
  };
  const own = Object.fromEntries(OWN.map((name) => [name, known[name] ?? '']));
  const variables = { ...own, TEMPORAL_ADDRESS: temporal, DATABASE_URL: database };
  const file = resolve(folder, 'edge.env');
  await mkdir(folder, { recursive: true });
  // A new file, because the mode of one that exists would stay.
  await rm(file, { force: true });
  await writeFile(
    file,
    Object.entries(variables)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
    { mode: PRIVATE_FILE },
  );
  const probe = async (signal: AbortSignal) => {
    const { ok } = await fetch(`http://127.0.0.1:${port}/health`, { signal });
    if (!ok) throw new Error('GET /health failed');
  };
  return startProcess(folder, {
    name: 'edge',
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
        resolve(folder, 'edge-state'),
      ],
    ],
    env: WRANGLER.env,
    readyWithin: 60_000,
    ready: (signal) =>
      pRetry(() => probe(signal), { retries: Number.POSITIVE_INFINITY, factor: 1, minTimeout: 100, signal }),
  });
}
