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

/** A session for one unit of work at a time. Its client holds no connection. `signal`: of the requests that it sends. */
interface Unit {
  session: PlanetScaleDatabase;
  signal: () => AbortSignal;
}

function createUnit(url: string): Unit {
  const client = new Client({
    url,
    fetch: (to, init) => send(to, { ...init, signal: unit.signal() } as RequestInit),
    // `json` in columns.ts parses JSON.
    cast: (field, value) => cast(field.type === 'JSON' ? { ...field, type: 'TEXT', charset: UTF8MB4 } : field, value),
  });
  const unit: Unit = { session: drizzle({ client }), signal: () => AbortSignal.abort() };
  return unit;
}

/** Opens the database of an `https://` URL, or of an `http://` one on a trusted network. Nothing is connected. */
export function openPlanetScale(url: string): Database {
  /** Those without work. They are kept, as statements are prepared for a session. */
  const idle: Unit[] = [];

  async function execute<T>(work: (db: PlanetScaleDatabase) => Promise<T>, timeoutMs: number): Promise<T> {
    const givenUp = new AbortController();
    const unit = idle.pop() ?? createUnit(url);
    // After giving up only the ROLLBACK is still sent.
    unit.signal = () => (givenUp.signal.aborted ? AbortSignal.timeout(ROLLBACK_TIMEOUT_MS) : givenUp.signal);
    const working = work(unit.session);
    try {
      return await withTimeout(timeoutMs, working, () => givenUp.abort());
    } finally {
      // An edge runtime stops all work once the request is answered, so the answer waits for the ROLLBACK.
      if (givenUp.signal.aborted) await working.catch(() => undefined);
      idle.push(unit);
    }
  }
  const run: Database['run'] = (work, timeoutMs = ANSWER_TIMEOUT_MS) =>
    retrying(timeoutMs, (timeLeft) => execute((db) => work(db as unknown as Session), timeLeft));
  return {
    run,
    transaction: (work, timeoutMs = ANSWER_TIMEOUT_MS) =>
      retrying(timeoutMs, (timeLeft) =>
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
