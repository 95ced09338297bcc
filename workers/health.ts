import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import pTimeout from 'p-timeout';

const CHECK_TIMEOUT_MS = 2_000;
/** How long one answer of the servers is shared, so that whoever reaches the port puts no load on them. */
const SHARE_FOR_MS = 1_000;

export interface HealthOptions {
  port: number;
  /** Whether this process takes on work: not while it starts or stops. */
  serves: () => boolean;
  /** The servers that it needs, by the names that an answer lists; each call rejects when its server doesn't answer. */
  checks: Record<string, () => Promise<unknown>>;
}

/**
 * Serves `GET /livez`, which answers while the process runs, and `GET /readyz`: 200 if it serves and each of its servers answers,
 * else 503 with the names of those that don't. It listens on every address. Rejects when the port is taken.
 */
export async function serveHealth({ port, serves, checks }: HealthOptions): Promise<Server> {
  let shared: { at: number; unreachable: Promise<string[]> } | undefined;

  async function ask(): Promise<string[]> {
    const names = Object.entries(checks).map(async ([name, check]) => {
      const answers = await pTimeout(check(), { milliseconds: CHECK_TIMEOUT_MS }).then(
        () => true,
        () => false,
      );
      return answers ? [] : [name];
    });
    return (await Promise.all(names)).flat();
  }

  function unreachable(): Promise<string[]> {
    if (!shared || performance.now() - shared.at >= SHARE_FOR_MS)
      shared = { at: performance.now(), unreachable: ask() };
    return shared.unreachable;
  }

  const server = createServer(async ({ url }, response) => {
    const answer = (status: number, body: object) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    if (url === '/livez') return answer(200, { ok: true });
    if (url !== '/readyz') return answer(404, { ok: false });
    const missing = await unreachable();
    return serves() && missing.length === 0
      ? answer(200, { ok: true })
      : answer(503, { ok: false, unreachable: missing });
  });
  await once(server.listen(port), 'listening');
  // An open connection must not keep the process from ending.
  return server.unref();
}
