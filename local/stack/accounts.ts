/** The accounts with which api and worker reach a database, with the rights that `npm run migrate` gives them and no others. */
import { randomBytes } from 'node:crypto';
import { migrate } from '@trellis/drizzle/migrate';
import { createConnection } from 'mysql2/promise';

/** `mysql://` URLs of one database, for the account of each program. */
export interface ProgramUrls {
  api: string;
  worker: string;
}

/** The names of the accounts of a stack, on a server of its own. */
export const STACK_ACCOUNTS: ProgramNames = { api: 'trellis_api', worker: 'trellis_worker' };

type ProgramNames = Record<keyof ProgramUrls, string>;

/**
 * Migrates the database at `url` and makes accounts for it, in place of those that have these names: by default new names. Where none
 * can be created both URLs are `url` itself.
 */
export async function accountsOn(url: string, names = newNames()): Promise<ProgramUrls & { drop(): Promise<void> }> {
  const { api, worker } = names;
  const password = randomBytes(16).toString('hex');
  const drop = () => query(url, `DROP USER IF EXISTS '${api}'@'%', '${worker}'@'%'`);
  try {
    await drop();
    await query(
      url,
      `CREATE USER '${api}'@'%' IDENTIFIED BY '${password}', '${worker}'@'%' IDENTIFIED BY '${password}'`,
    );
  } catch (error) {
    // The account of the URL may not, or the server is Vitess, which knows no such statement.
    if ((error as { errno?: number }).errno === undefined) throw error;
    await migrate(url);
    return { api: url, worker: url, drop: async () => {} };
  }
  await migrate(url, url, { API_ACCOUNT: api, WORKER_ACCOUNT: worker });
  const urlOf = (username: string) => Object.assign(new URL(url), { username, password }).href;
  return { api: urlOf(api), worker: urlOf(worker), drop };
}

function newNames(): ProgramNames {
  const name = randomBytes(6).toString('hex');
  return { api: `api_${name}`, worker: `worker_${name}` };
}

async function query(url: string, statement: string): Promise<void> {
  const connection = await createConnection(url);
  await connection.query(statement).finally(() => connection.end());
}
