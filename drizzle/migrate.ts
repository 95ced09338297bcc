/** `npm run migrate`: brings the database up to date. */
import { fileURLToPath } from 'node:url';
import { fromEnvironment } from '@trellis/contracts/config/environment';
import { PROGRAMS } from '@trellis/contracts/config/variables';
import { drizzle } from 'drizzle-orm/mysql2';
import { migrate as applyMigrations } from 'drizzle-orm/mysql2/migrator';
import { createConnection, type RowDataPacket } from 'mysql2/promise';

const FOLDER = fileURLToPath(new URL('migrations', import.meta.url));

/** Applies what is missing. Two at once wait for each other; running it again changes nothing. */
export async function migrate(url: string): Promise<void> {
  const connection = await createConnection({ uri: url, connectTimeout: 10_000 });
  try {
    const [[row]] = await connection.query<RowDataPacket[]>("SELECT GET_LOCK('trellis_migrate', 60) AS held");
    if (row?.held !== 1) throw new Error('another migration of this server has been running for a minute');
    await applyMigrations(drizzle({ client: connection }), { migrationsFolder: FOLDER });
  } finally {
    await connection.end();
  }
}

if (import.meta.main) {
  const { DATABASE_URL } = fromEnvironment(PROGRAMS.migrate);
  await migrate(DATABASE_URL);
  process.stdout.write('the database is up to date\n');
}
