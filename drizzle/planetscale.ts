/** The database over HTTP, for runtimes that only have `fetch`: the protocol of PlanetScale's serverless driver. */
import { Client, cast } from '@planetscale/database';
import { drizzle, type PlanetScaleDatabase } from 'drizzle-orm/planetscale-serverless';
import { ANSWER_TIMEOUT_MS, type Database, pingBy, retrying, type Session, withTimeout } from './database.ts';

/** Timeout of the ROLLBACK of an abandoned transaction. */
const ROLLBACK_TIMEOUT_MS = 500;

const UTF8MB4 = 255;

/** The call failed; whether the statement ran is unknown. */
class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
  readonly code = 'CONNECTION_LOST';
}

/** Opens the database of an `https://` URL, or of an `http://` one on a trusted network. Nothing is connected. */
export function openPlanetScale(url: string): Database {
  /** Each unit of work has its own timeout and therefore its own client; a client holds no connection. */
  async function execute<T>(work: (db: PlanetScaleDatabase) => Promise<T>, timeoutMs: number): Promise<T> {
    const givenUp = new AbortController();
    // After giving up only the ROLLBACK is still sent.
    const signal = () => (givenUp.signal.aborted ? AbortSignal.timeout(ROLLBACK_TIMEOUT_MS) : givenUp.signal);
    const client = new Client({
      url,
      fetch: (to, init) => send(to, { ...init, signal: signal() } as RequestInit),
      // `json` in columns.ts parses JSON.
      cast: (field, value) => cast(field.type === 'JSON' ? { ...field, type: 'TEXT', charset: UTF8MB4 } : field, value),
    });
    const working = work(drizzle({ client }));
    try {
      return await withTimeout(timeoutMs, working, () => givenUp.abort());
    } finally {
      // An edge runtime stops all work once the request is answered, so the answer waits for the ROLLBACK.
      if (givenUp.signal.aborted) await working.catch(() => undefined);
    }
  }
  const run: Database['run'] = (work, timeoutMs = ANSWER_TIMEOUT_MS) =>
    retrying(timeoutMs, (timeLeft) => execute((db) => work(db as unknown as Session), timeLeft));
  return {
    run,
    transaction: (work) =>
      retrying(ANSWER_TIMEOUT_MS, (timeLeft) =>
        execute((db) => db.transaction((tx) => work(tx as unknown as Session)), timeLeft),
      ),
    ping: pingBy(run),
    close: async () => undefined,
  };
}

/** Reads the whole response here, so that one that breaks off counts as a lost connection. */
async function send(to: string, init: RequestInit): Promise<Response> {
  try {
    const response = await fetch(to, init);
    return new Response(await response.arrayBuffer(), response);
  } catch (cause) {
    throw new ConnectionLost('the database cannot be reached', { cause });
  }
}
