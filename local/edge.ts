/** `npm run edge`: the API on the edge runtime, beside the stack of a running `npm start`, until Ctrl-C or until that stack stops. */
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseEnv } from 'node:util';
import { print, script } from './options.ts';
import { callersOf } from './stack/callers.ts';
import { startEdge } from './stack/edge-server.ts';
import { LOCAL } from './stack/folder.ts';
import { programVariables } from './stack/node-programs.ts';
import { keepPorts } from './stack/ports.ts';
import { holdLock, interruption, reap } from './stack/processes.ts';

/** Not the stack's own folder: `npm start` would stop this program as one that an earlier start left running. */
const FOLDER = join(LOCAL, 'edge');
const ENV_FILE = join(LOCAL, 'env');

script('npm run edge', 'Run the API on the edge runtime beside the stack of npm start, until Ctrl-C.').parse();

const answers = (url: string | undefined) =>
  fetch(`${url}/health`).then(
    ({ ok }) => ok,
    () => false,
  );

const interrupted = interruption();
try {
  if (!(await holdLock(FOLDER, 'edge'))) throw new Error('npm run edge already runs in this folder');
  await reap(FOLDER);
  const {
    PLANETSCALE_URL,
    TEMPORAL_HTTP_URL,
    API_URL,
    EDGE_URL,
    CHECKOUT_TOKEN,
    ENCRYPTION_KEYS = '',
    ENCRYPT = '',
    TEMPORAL_NAMESPACE,
  } = parseEnv(await readFile(ENV_FILE, 'utf8').catch(() => ''));
  if (!PLANETSCALE_URL || !TEMPORAL_HTTP_URL || !(await answers(API_URL)))
    throw new Error('no stack runs in this folder: start one first, with npm start');
  if (EDGE_URL && (await answers(EDGE_URL))) throw new Error(`the API already runs on the edge runtime at ${EDGE_URL}`);

  const { edge: port } = await keepPorts({ folder: FOLDER, used: (name) => name === 'edge', say: print });
  const servers = { temporal: TEMPORAL_HTTP_URL, database: PLANETSCALE_URL };
  // It accepts the tokens that the stack has made, and encrypts as the stack does.
  const { settings } = await callersOf(LOCAL, { ...(await programVariables()), ...(CHECKOUT_TOKEN && { AUTH: 'on' }) });
  const edge = await startEdge({
    folder: FOLDER,
    port,
    ...servers,
    // A `.env` may name the namespace of another server.
    settings: { ...process.env, ENCRYPTION_KEYS, ENCRYPT, TEMPORAL_NAMESPACE, ...settings },
  });
  const url = `http://127.0.0.1:${port}`;
  await recordAddress(`EDGE_URL=${url}\n`);
  print(`The API runs on the edge runtime at ${url}, which is EDGE_URL in .local/env. Its log is`);
  print('.local/edge/logs/edge.log. Ctrl-C stops it.');

  const ended = await Promise.race([
    interrupted,
    edge.exited.then(() => 'exited' as const),
    stackStopped().then(() => 'stack stopped' as const),
  ]);
  if (ended === 'stack stopped') print('the stack has stopped, stopping the API on the edge runtime too');
  await edge.stop();
  await recordAddress('');
  if (ended === 'exited')
    throw new Error('the API on the edge runtime exited unexpectedly; the end of its log may show why');
} catch (error) {
  print(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
process.exit();

/** The stack removes its file of addresses when it stops. */
async function stackStopped(): Promise<void> {
  while (existsSync(ENV_FILE)) await sleep(500);
}

/** Replaces the file's EDGE_URL, also what a killed run left. Writes nothing once the stack has removed the file. */
async function recordAddress(line: string): Promise<void> {
  const lines = await readFile(ENV_FILE, 'utf8').catch(() => undefined);
  if (lines !== undefined) await writeFile(ENV_FILE, lines.replace(/^EDGE_URL=.*\n/gm, '') + line);
}
