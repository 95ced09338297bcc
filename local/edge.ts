/** `npm run edge`: the API on the edge runtime, beside a stack that `npm start` has brought up, until Ctrl-C. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { startEdge } from './stack/edge-server.ts';
import { freePort, LOCAL } from './stack/stack.ts';

const PORT = 8787;
const say = (line: string) => process.stdout.write(`${line}\n`);

const stack = parseEnv(await readFile(join(LOCAL, 'env'), 'utf8').catch(() => ''));
const { PLANETSCALE_URL, TEMPORAL_HTTP_URL, API_URL } = stack;
const up = await fetch(`${API_URL}/health`).then(
  ({ ok }) => ok,
  () => false,
);
if (!up || !PLANETSCALE_URL || !TEMPORAL_HTTP_URL) {
  say('nothing runs here: start the stack first, with npm start');
  process.exit(1);
}

const interrupted = new Promise<NodeJS.Signals>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, resolve);
});
try {
  const port = await freePort(PORT);
  if (port !== PORT) say(`port ${PORT} is taken, using ${port}`);
  const servers = { temporal: TEMPORAL_HTTP_URL, database: PLANETSCALE_URL };
  const edge = await startEdge({ folder: LOCAL, port, ...servers, settings: process.env, name: 'edge-beside' });
  say(
    `The API runs on the edge runtime at http://127.0.0.1:${port}, its log in .local/logs/edge-beside.log. Ctrl-C stops it.`,
  );
  const signal = await Promise.race([interrupted, edge.exited]);
  if (!signal) throw new Error('it has stopped by itself; the end of its log may tell why');
  await edge.stop();
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
process.exit();
