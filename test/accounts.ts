/** The accounts with which api and worker reach a database, with the rights that `npm run migrate` gives them and no others. */
import { randomBytes } from 'node:crypto';
import { migrate } from '@trellis/drizzle/migrate';
import { createConnection } from 'mysql2/promise';

export interface ProgramUrls {
  api: string;
  worker: string;
  drop(): Promise<void>;
}

/** `mysql://` URLs of the migrated database at `url`, for new accounts. Where none can be created both are `url` itself. */
export async function accountsOn(url: string): Promise<ProgramUrls> {
  const server = await createConnection(url);
  const name = randomBytes(6).toString('hex');
  const accounts = { api: `api_${name}`, worker: `worker_${name}` };
  const password = randomBytes(6).toString('hex');
  try {
    for (const account of Object.values(accounts))
      await server.query(`CREATE USER '${account}'@'%' IDENTIFIED BY '${password}'`);
  } catch (error) {
    await server.end();
    // The account of the URL may not, or the server is Vitess, which knows no such statement.
    if ((error as { errno?: number }).errno === undefined) throw error;
    return { api: url, worker: url, drop: async () => {} };
  }
  await migrate(url, url, { API_ACCOUNT: accounts.api, WORKER_ACCOUNT: accounts.worker });
  const urlOf = (username: string) => Object.assign(new URL(url), { username, password }).href;
  return {
    api: urlOf(accounts.api),
    worker: urlOf(accounts.worker),
    async drop() {
      for (const account of Object.values(accounts)) await server.query(`DROP USER '${account}'@'%'`);
      await server.end();
    },
  };
}
