/** `npm run edge`: the API on the edge runtime, beside a stack that `npm start` has brought up, until Ctrl-C. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { startEdge } from './edge-server.ts';
import { LOCAL } from './stack.ts';

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
  const servers = { temporal: TEMPORAL_HTTP_URL, database: PLANETSCALE_URL };
  const edge = await startEdge({ folder: LOCAL, port: PORT, ...servers, settings: process.env });
  say(
    `The API runs on the edge runtime at http://127.0.0.1:${PORT}, its log in .local/logs/edge.log. Ctrl-C stops it.`,
  );
  await Promise.race([interrupted, edge.exited]);
  await edge.stop();
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
process.exit();
