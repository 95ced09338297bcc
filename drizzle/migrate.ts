/** `npm run migrate`: applies the missing migrations of the product and of the sandbox. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { fromEnvironment } from '@trellis/contracts/config/environment';
import { PROGRAMS } from '@trellis/contracts/config/variables';
import { drizzle } from 'drizzle-orm/mysql2';
import { migrate as applyMigrations } from 'drizzle-orm/mysql2/migrator';
import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise';
import { DatabaseError, failureLine } from './database.ts';

interface Migrations {
  folder: URL;
  /** The table that records which of them were applied. */
  table: string;
}

const PRODUCT: Migrations = { folder: new URL('migrations/', import.meta.url), table: '__drizzle_migrations' };
const SANDBOX: Migrations = {
  folder: new URL('sandbox/migrations/', import.meta.url),
  table: '__drizzle_migrations_sandbox',
};

/**
 * Applies the missing migrations of the product to the database at `url`, and those of the sandbox to the one at
 * `sandboxUrl`, by default the same. Both are `mysql://` URLs. Returns the names of the migrations applied; running it again changes nothing.
 */
export async function migrate(url: string, sandboxUrl = url): Promise<string[]> {
  return [...(await apply(PRODUCT, url)), ...(await apply(SANDBOX, sandboxUrl))];
}

/** Concurrent runs on one server wait for each other. */
async function apply({ folder, table }: Migrations, url: string): Promise<string[]> {
  const connection = await createConnection({ uri: url, connectTimeout: 10_000 });
  try {
    const [[row]] = await connection.query<RowDataPacket[]>("SELECT GET_LOCK('trellis_migrate', 60)");
    // By position: Vitess names the column itself, whatever its alias.
    if (Object.values(row ?? {})[0] !== 1)
      throw new DatabaseError('another migration has been running on this server for a minute');
    const last = await lastApplied(connection, table);
    const migrationsFolder = fileURLToPath(folder);
    await applyMigrations(drizzle({ client: connection }), { migrationsFolder, migrationsTable: table });
    const journal = await readFile(new URL('meta/_journal.json', folder), 'utf8');
    const { entries } = JSON.parse(journal) as { entries: { tag: string; when: number }[] };
    return entries.filter(({ when }) => when > last).map(({ tag }) => tag);
  } finally {
    await connection.end();
  }
}

/** The journal's time of the last migration that was applied; 0 when none was. */
async function lastApplied(connection: Connection, table: string): Promise<number> {
  const tables = 'SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?';
  const [[found]] = await connection.query<RowDataPacket[]>(tables, [table]);
  if (!found) return 0;
  const [[row]] = await connection.query<RowDataPacket[]>('SELECT MAX(created_at) AS last FROM ??', [table]);
  return Number(row?.last ?? 0);
}

if (import.meta.main) {
  const { DATABASE_URL, SANDBOX_DATABASE_URL } = fromEnvironment(PROGRAMS.migrate);
  const targets = [
    { variable: 'DATABASE_URL', url: DATABASE_URL, migrations: PRODUCT },
    SANDBOX_DATABASE_URL === undefined
      ? { variable: 'DATABASE_URL', url: DATABASE_URL, migrations: SANDBOX }
      : { variable: 'SANDBOX_DATABASE_URL', url: SANDBOX_DATABASE_URL, migrations: SANDBOX },
  ];
  let upToDate = true;
  for (const { variable, url, migrations } of targets) {
    try {
      const applied = await apply(migrations, url);
      upToDate &&= applied.length === 0;
      for (const name of applied) process.stdout.write(`applied ${name}\n`);
    } catch (error) {
      const line = failureLine(variable, url, error);
      if (line === undefined) throw error;
      process.stderr.write(`${line}\n`);
      process.exit(1);
    }
  }
  if (upToDate) process.stdout.write('up to date\n');
}
