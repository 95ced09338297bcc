import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import pTimeout from 'p-timeout';

const CHECK_TIMEOUT_MS = 2_000;

export interface HealthOptions {
  port: number;
  /** Whether this process takes on work: not while it starts or stops. */
  serves: () => boolean;
  /** The servers that it needs, by the names that an answer lists; each call rejects when its server doesn't answer. */
  checks: Record<string, () => Promise<unknown>>;
}

/**
 * Serves `GET /livez`, which answers while the process runs, and `GET /readyz`: 200 if it serves and each of its servers answers,
 * else 503 with the names of those that don't. Rejects when the port is taken.
 */
export async function serveHealth({ port, serves, checks }: HealthOptions): Promise<Server> {
  async function unreachable(): Promise<string[]> {
    const names = Object.entries(checks).map(async ([name, check]) => {
      const answers = await pTimeout(check(), { milliseconds: CHECK_TIMEOUT_MS }).then(
        () => true,
        () => false,
      );
      return answers ? [] : [name];
    });
    return (await Promise.all(names)).flat();
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
