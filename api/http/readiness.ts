/** Whether the servers that the API depends on answer, for `GET /readyz`. */
import { after } from '../after.ts';

/** Asks a server; rejects when it doesn't answer within `timeoutMs` milliseconds. */
export type Ping = (timeoutMs: number) => Promise<unknown>;
export type Pings = { [Server in 'database' | 'temporal']: Ping };

const PING_TIMEOUT_MS = 1_000;
/** With extra time for a ping to report its own timeout. */
const TIMEOUT_MS = PING_TIMEOUT_MS + 100;
/** How long one answer is shared, so that probes put no load on the servers. */
const SHARE_FOR_MS = 1_000;

/** The names of the servers that don't answer, asked at once. */
export function createReadiness(pings: Pings): () => Promise<string[]> {
  let shared: { at: number; unreachable: Promise<string[]> } | undefined;

  async function ask(): Promise<string[]> {
    const answers = Object.entries(pings).map(([server, ping]) =>
      Promise.race([
        ping(PING_TIMEOUT_MS).then(
          () => [],
          () => [server],
        ),
        after(TIMEOUT_MS).then(() => [server]),
      ]),
    );
    return (await Promise.all(answers)).flat();
  }

  return () => {
    if (!shared || performance.now() - shared.at >= SHARE_FOR_MS)
      shared = { at: performance.now(), unreachable: ask() };
    // On an edge runtime the request that sent the pings may have been canceled, and then their answers never arrive.
    return Promise.race([shared.unreachable, after(TIMEOUT_MS).then(() => Object.keys(pings))]);
  };
}
