/** The servers and programs of the project `stack`: a test file names the parts it needs, and no other part is started. */
import type { JWK } from 'jose';
import { inject } from 'vitest';

/** One way to run the API. `tokens`: if it asks for them. */
export interface Api {
  name: string;
  url: string;
  tokens?: Tokens;
}

/** The token of a caller who starts orders, and of another who decides them. */
export interface Tokens {
  starting: string;
  deciding: string;
}

/** What each part provides once it runs. A part starts the parts it depends on. */
export interface Parts {
  /**
   * A migrated database, shared by all files; the only one where no others can be created beside it. `ofApi`, `ofWorker`: its URLs for
   * these programs' own accounts.
   */
  database: { DATABASE_URL: string; canCreateDatabases: boolean; ofApi: string; ofWorker: string };
  /** The server of that database over PlanetScale's HTTP protocol. */
  gateway: { PLANETSCALE_URL: string };
  /** Temporal's dev server, or the one that is named; of that the metrics are unknown. */
  temporal: { TEMPORAL_ADDRESS: string; TEMPORAL_HTTP_URL: string; TEMPORAL_METRICS_URL?: string };
  /** Temporal's time-skipping server: the path of its program, empty when the SDK must download it. */
  testServer: { testServer: string };
  /** What `npm run build` makes, in a folder. */
  programs: { built: string };
  /** A worker for both queues, without fault injection, and the file it logs to. */
  worker: { workerLog: string };
  /** The API on Node over gRPC and mysql2, with its worker. */
  api: { API_URL: string };
  /**
   * The API in each way it can run, all with that worker, database and Temporal server. `key` signs tokens for those that ask for
   * them; `issuer` is the URL of a second issuer that they accept, which a test starts.
   */
  apis: { apis: Api[]; key: JWK; issuer: string };
}

export type Part = keyof Parts;

/** The intersection of what the parts provide. */
type Provided<P extends Part> = { [K in P]: (provided: Parts[K]) => void }[P] extends (provided: infer All) => void
  ? All
  : never;

/**
 * Starts the parts that do not run yet and resolves with what all of them provide, once they can be used. They run until
 * the end of the test run. Rejects with the end of the log of a part that did not start.
 */
export async function need<P extends Part>(...parts: P[]): Promise<Provided<P>> {
  const provided = await Promise.all(
    parts.map(async (part) => {
      const answer = await fetch(`${inject('servers')}/${part}`, { method: 'POST' });
      if (!answer.ok) throw new Error(await answer.text());
      return answer.json();
    }),
  );
  return Object.assign({}, ...provided);
}
