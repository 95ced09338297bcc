/** Whether the servers that the API depends on answer, for `GET /readyz`. */

/** Asks a server; rejects when it doesn't answer within `timeoutMs` milliseconds. */
export type Ping = (timeoutMs: number) => Promise<unknown>;
export type Pings = { [Server in 'database' | 'temporal']: Ping };

const PING_TIMEOUT_MS = 1_000;
/** Extra time for a ping to report its own timeout. */
const GRACE_MS = 100;
/** How long one answer is shared, so that probes put no load on the servers. */
const SHARE_FOR_MS = 1_000;

/** The names of the servers that don't answer, asked at once. */
export function createReadiness(pings: Pings): () => Promise<string[]> {
  let shared: { at: number; unreachable: Promise<string[]> } | undefined;

  async function ask(): Promise<string[]> {
    const answers = Object.entries(pings).map(([server, ping]) =>
      // On an edge runtime the answer never arrives when the request that asked was canceled.
      Promise.race([ping(PING_TIMEOUT_MS), timeout()]).then(
        () => [],
        () => [server],
      ),
    );
    return (await Promise.all(answers)).flat();
  }

  return () => {
    if (!shared || performance.now() - shared.at >= SHARE_FOR_MS)
      shared = { at: performance.now(), unreachable: ask() };
    return Promise.race([shared.unreachable, timeout().catch(() => Object.keys(pings))]);
  };
}

const timeout = () =>
  new Promise<never>((_, reject) => setTimeout(() => reject(new Error('no answer')), PING_TIMEOUT_MS + GRACE_MS));
