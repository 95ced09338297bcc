/** The database over HTTP, for runtimes that have `fetch` and nothing else: the protocol of PlanetScale's serverless driver. */
import { Client } from '@planetscale/database';
import { drizzle, type PlanetScaleDatabase } from 'drizzle-orm/planetscale-serverless';
import { ANSWER_WITHIN_MS, type Database, retrying, type Session, within } from './database.ts';

/** What ends a transaction that was given up may take so long. */
const ROLLBACK_WITHIN_MS = 500;

/** The call broke: what it carried was done, or wasn't. */
class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
  readonly code = 'CONNECTION_LOST';
}

/** Opens the database of an `https://` URL, or of an `http://` one where nobody can listen in. There is nothing to connect. */
export function openPlanetScale(url: string): Database {
  /** Each piece of work has a deadline, so a client of its own; they keep nothing. */
  async function execute<T>(work: (db: PlanetScaleDatabase) => Promise<T>, limit: number): Promise<T> {
    const givenUp = new AbortController();
    // Once it is given up there is only a ROLLBACK left to send.
    const signal = () => (givenUp.signal.aborted ? AbortSignal.timeout(ROLLBACK_WITHIN_MS) : givenUp.signal);
    const client = new Client({ url, fetch: (to, init) => send(to, { ...init, signal: signal() } as RequestInit) });
    const working = work(drizzle({ client }));
    try {
      return await within(limit, working, () => givenUp.abort());
    } finally {
      // On the edge nothing goes on once a request is answered, so the answer waits for the ROLLBACK.
      if (givenUp.signal.aborted) await working.catch(() => undefined);
    }
  }
  return {
    run: (work, limit = ANSWER_WITHIN_MS) =>
      retrying(() => execute((db) => work(db as unknown as Session), limit), isLost),
    transaction: (work) =>
      retrying(() => execute((db) => db.transaction((tx) => work(tx as unknown as Session)), ANSWER_WITHIN_MS), isLost),
    close: async () => undefined,
  };
}

/** The answer as a whole, so that one that breaks off in the middle is known for what it is. */
async function send(to: string, init: RequestInit): Promise<Response> {
  try {
    const response = await fetch(to, init);
    return new Response(await response.arrayBuffer(), response);
  } catch (cause) {
    throw new ConnectionLost('the database can not be reached', { cause });
  }
}

/** Of the server's words, those that say that it lost the transaction, or that nobody was there to take it. */
const LOST = new Set(['ABORTED', 'UNAVAILABLE']);

function isLost(error: Error): boolean {
  const { status = 0, body } = error as { status?: number; body?: { code?: string } };
  // Whoever stands before the database has found nobody behind it.
  return error instanceof ConnectionLost || status >= 502 || LOST.has(body?.code ?? '');
}
