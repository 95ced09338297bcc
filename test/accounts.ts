/** The accounts with which api and worker reach a database, with the rights that `npm run migrate` gives them and no others. */
import { randomBytes } from 'node:crypto';
import { migrate } from '@trellis/drizzle/migrate';
import { createConnection } from 'mysql2/promise';

interface ProgramUrls {
  api: string;
  worker: string;
  drop(): Promise<void>;
}

/** `mysql://` URLs of the migrated database at `url`, for new accounts. Where none can be created both are `url` itself. */
export async function accountsOn(url: string): Promise<ProgramUrls> {
  const name = randomBytes(6).toString('hex');
  const password = randomBytes(6).toString('hex');
  const [api, worker] = [`api_${name}`, `worker_${name}`];
  try {
    await query(
      url,
      `CREATE USER '${api}'@'%' IDENTIFIED BY '${password}', '${worker}'@'%' IDENTIFIED BY '${password}'`,
    );
  } catch (error) {
    // The account of the URL may not, or the server is Vitess, which knows no such statement.
    if ((error as { errno?: number }).errno === undefined) throw error;
    return { api: url, worker: url, drop: async () => {} };
  }
  await migrate(url, url, { API_ACCOUNT: api, WORKER_ACCOUNT: worker });
  const urlOf = (username: string) => Object.assign(new URL(url), { username, password }).href;
  return {
    api: urlOf(api),
    worker: urlOf(worker),
    drop: () => query(url, `DROP USER '${api}'@'%', '${worker}'@'%'`),
  };
}

async function query(url: string, statement: string): Promise<void> {
  const connection = await createConnection(url);
  await connection.query(statement).finally(() => connection.end());
}
