/** `npm run migrate`: applies the missing migrations of the product and of the sandbox, then gives the programs' accounts their rights. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { readCommandLine } from '@trellis/contracts/config/command-line';
import { fromEnvironment } from '@trellis/contracts/config/environment';
import { PROGRAMS } from '@trellis/contracts/config/variables';
import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise';
import { DatabaseError, databaseErrorOf, failureLine } from './database.ts';
import { type Accounts, productGrants, sandboxGrants } from './grants.ts';
import { connectionOptions, SESSION_SETUP } from './mysql.ts';

interface Migrations {
  folder: URL;
  /** The table that records which of them were applied. */
  table: string;
  /** The statements that give accounts their rights on these tables. */
  grants: (accounts: Accounts) => string[];
}

const PRODUCT: Migrations = {
  folder: new URL('migrations/', import.meta.url),
  table: '__drizzle_migrations',
  grants: productGrants,
};
const SANDBOX: Migrations = {
  folder: new URL('sandbox/migrations/', import.meta.url),
  table: '__drizzle_migrations_sandbox',
  grants: sandboxGrants,
};

/** A migration as drizzle-kit wrote it. `when` orders them and is recorded, as is `hash`, in the form of drizzle's own migrator. */
interface Migration {
  tag: string;
  when: number;
  hash: string;
  statements: string[];
}

/** Runs wait this long for another one, which may have been killed while the server still works on its statement. */
const LOCK_TIMEOUT_MS = 60_000;
/** A statement waits this long for others to leave its table. While it waits, all later ones wait behind it, those of the product too. */
const METADATA_LOCK_TIMEOUT_MS = 10_000;
/** Errnos of a statement that has already been applied: the table, column or index exists; the column or index is gone. */
const APPLIED_BEFORE = new Set([1050, 1060, 1061, 1091]);

/**
 * Applies the missing migrations of the product to the database at `url`, and those of the sandbox to the one at
 * `sandboxUrl`, by default the same. Both are `mysql://` URLs. Returns the names of the migrations applied. Running it again
 * changes nothing, or continues where it was killed. The `accounts`, which must exist, get the rights that their programs need; the
 * account of the URLs must have these itself, and GRANT OPTION.
 */
export async function migrate(url: string, sandboxUrl = url, accounts: Accounts = {}): Promise<string[]> {
  return [...(await apply(PRODUCT, url, accounts)), ...(await apply(SANDBOX, sandboxUrl, accounts))];
}

/** Concurrent runs on one database wait for each other. `report` is called with the name of each migration that was applied. */
async function apply(
  { folder, table, grants }: Migrations,
  url: string,
  accounts: Accounts,
  report: (tag: string) => void = () => {},
): Promise<string[]> {
  const options = connectionOptions(url);
  try {
    const connection = await createConnection({ ...options, connectTimeout: 10_000 });
    try {
      for (const statement of SESSION_SETUP) await connection.query(statement);
      await connection.query(`SET lock_wait_timeout = ${METADATA_LOCK_TIMEOUT_MS / 1_000}`);
      await lock(connection, options.database);
      await connection.query(
        'CREATE TABLE IF NOT EXISTS ?? (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)',
        [table],
      );
      const [[last]] = await connection.query<RowDataPacket[]>('SELECT MAX(created_at) AS time FROM ??', [table]);
      const missing = (await read(folder)).filter(({ when }) => when > Number(last?.time ?? 0));
      for (const migration of missing) {
        await applyOne(connection, table, migration);
        report(migration.tag);
      }
      for (const statement of grants(accounts)) await connection.query(statement);
      await connection.end();
      return missing.map(({ tag }) => tag);
    } finally {
      connection.destroy();
    }
  } catch (error) {
    throw databaseErrorOf(error) ?? error;
  }
}

async function lock(connection: Connection, database: string): Promise<void> {
  // A lock's name is at most 64 characters long, and locks are the server's.
  const name = `trellis_migrate_${createHash('sha1').update(database).digest('hex')}`;
  const [[row]] = await connection.query<RowDataPacket[]>(`SELECT GET_LOCK('${name}', ${LOCK_TIMEOUT_MS / 1_000})`);
  // By position: Vitess names the column itself, whatever its alias.
  if (Object.values(row ?? {})[0] !== 1)
    throw new DatabaseError('another migration of this database has been running for a minute; try again later');
}

async function read(folder: URL): Promise<Migration[]> {
  const journal = await readFile(new URL('meta/_journal.json', folder), 'utf8');
  const { entries } = JSON.parse(journal) as { entries: { tag: string; when: number }[] };
  return Promise.all(
    entries.map(async ({ tag, when }) => {
      const text = await readFile(new URL(`${tag}.sql`, folder), 'utf8');
      const hash = createHash('sha256').update(text).digest('hex');
      return { tag, when, hash, statements: text.split('--> statement-breakpoint') };
    }),
  );
}

/**
 * Applies what is left of a migration. MySQL commits each statement that changes the schema, so the record of a migration that is
 * under way says which statement is next. That record has no time, so that drizzle's migrator ignores it. After a kill only the next
 * statement may have been applied without a record, so its error "exists already" counts as success; after a refusal it does not.
 */
async function applyOne(
  connection: Connection,
  table: string,
  { tag, when, hash, statements }: Migration,
): Promise<void> {
  const record = (progress: string) =>
    connection.query('UPDATE ?? SET hash = ? WHERE created_at IS NULL', [table, progress]);
  const [[begun]] = await connection.query<RowDataPacket[]>('SELECT hash FROM ?? WHERE created_at IS NULL', [table]);
  if (!begun) {
    await refuseOthersTables(connection, tag, statements);
    await connection.query('INSERT INTO ?? (hash) VALUES (?)', [table, `${hash} 0`]);
  }
  const [begunHash, next, refused] = `${begun?.hash ?? `${hash} 0`}`.split(' ');
  if (begunHash !== hash)
    throw new DatabaseError(`${tag} is not the migration that was begun; run migrate of the release that began it`);

  // From here on a kill again leaves unknown whether the statement was applied.
  if (refused) await record(`${hash} ${next}`);

  for (const [n, statement] of [...statements.entries()].slice(Number(next))) {
    const mayBeApplied = begun !== undefined && n === Number(next) && refused === undefined;
    try {
      // Together with the record, unless the statement commits itself.
      await connection.query('BEGIN');
      await connection.query(statement);
    } catch (error) {
      const { kind, errno = 0, reason } = databaseErrorOf(error) ?? {};
      if (!(mayBeApplied && APPLIED_BEFORE.has(errno))) {
        if (errno && kind !== 'lost') await connection.query('ROLLBACK').then(() => record(`${hash} ${n} refused`));
        const where = `${tag}, statement ${n + 1} of ${statements.length}`;
        throw reason ? new DatabaseError(`${where} failed`, { reason: `${where}: ${reason}` }) : error;
      }
    }
    await record(`${hash} ${n + 1}`);
    await connection.query('COMMIT');
  }
  await connection.query('UPDATE ?? SET hash = ?, created_at = ? WHERE created_at IS NULL', [table, hash, when]);
}

/** Throws when a table that the migration creates exists before the migration has begun. */
async function refuseOthersTables(connection: Connection, tag: string, statements: string[]): Promise<void> {
  const [rows] = await connection.query<RowDataPacket[]>('SHOW TABLES');
  const there = new Set(rows.map((row) => Object.values(row)[0]));
  const made = statements.map((statement) => /^\s*CREATE TABLE `(\w+)`/m.exec(statement)?.[1]);
  const others = made.filter((name) => there.has(name));
  if (others.length > 0)
    throw new DatabaseError(
      `${tag} makes tables that exist already: ${others.join(', ')}. If they are empty, as left by a killed migrate of 0.3.0 or earlier, drop them; else use a database of its own`,
    );
}

if (import.meta.main) {
  readCommandLine('npm run migrate', 'Apply the missing migrations of the product and of the sandbox.');
  const { DATABASE_URL, SANDBOX_DATABASE_URL, ...accounts } = fromEnvironment(PROGRAMS.migrate);
  const targets = [
    { variable: 'DATABASE_URL', url: DATABASE_URL, migrations: PRODUCT },
    SANDBOX_DATABASE_URL === undefined
      ? { variable: 'DATABASE_URL', url: DATABASE_URL, migrations: SANDBOX }
      : { variable: 'SANDBOX_DATABASE_URL', url: SANDBOX_DATABASE_URL, migrations: SANDBOX },
  ];
  let upToDate = true;
  for (const { variable, url, migrations } of targets) {
    try {
      const applied = await apply(migrations, url, accounts, (name) => process.stdout.write(`applied ${name}\n`));
      upToDate &&= applied.length === 0;
    } catch (error) {
      const line = failureLine(variable, url, error);
      if (line === undefined) throw error;
      process.stderr.write(`${line}\n`);
      process.exit(1);
    }
  }
  if (upToDate) process.stdout.write('up to date\n');
}
