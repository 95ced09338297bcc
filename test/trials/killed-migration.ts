/** Kills a migration of a database of its own somewhere in the middle, and checks that running it again completes it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT } from '@trellis/local/stack/folder';
import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise';
import { openSqlProxy } from './sql-proxy.ts';

const DATABASE = 'killed_migration';
/** Stretches the migration, which is otherwise over within a fraction of a second. */
const ANSWER_DELAY_MS = 20;
/** Longer than the stretched migration takes. */
const LONGEST_MS = 3_000;

/**
 * Migrates a new database on the server of `url`, an account that may create one; kills it after its first table, at a moment
 * that `random` chooses; migrates again. Returns what is wrong then: the error, or what differs from the schema that the
 * database of `url` has.
 */
export async function killMigration(url: string, random: () => number): Promise<string[]> {
  const target = new URL(url);
  target.pathname = `/${DATABASE}`;
  const server = await createConnection(url);
  try {
    await server.query(`DROP DATABASE IF EXISTS ${DATABASE}`);
    await server.query(`CREATE DATABASE ${DATABASE}`);
    const proxy = await openSqlProxy(target.href);
    proxy.delayAnswers(ANSWER_DELAY_MS);
    const killed = migration(proxy.url);
    const exited = once(killed, 'exit');
    while (killed.exitCode === null && (await schemaOf(server, DATABASE)).length === 0) await sleep(10);
    await Promise.race([exited, sleep(random() * LONGEST_MS)]);
    killed.kill('SIGKILL');
    await exited;
    proxy.close();

    const again = migration(target.href);
    const [error] = await Promise.all([text(again.stderr), once(again, 'exit')]);
    if (again.exitCode !== 0) return [`a killed migration could not be run again: ${error.trim()}`];
    const [expected, migrated] = [
      await schemaOf(server, new URL(url).pathname.slice(1)),
      await schemaOf(server, DATABASE),
    ];
    await server.query(`DROP DATABASE ${DATABASE}`);
    return [
      ...expected
        .filter((line) => !migrated.includes(line))
        .map((line) => `after a killed migration is missing: ${line}`),
      ...migrated
        .filter((line) => !expected.includes(line))
        .map((line) => `after a killed migration is too much: ${line}`),
    ];
  } finally {
    await server.end();
  }
}

function migration(url: string) {
  const env = { ...process.env, DATABASE_URL: url, SANDBOX_DATABASE_URL: '' };
  return spawn(process.execPath, [join(ROOT, 'drizzle/migrate.ts')], { env, stdio: ['ignore', 'ignore', 'pipe'] });
}

/** The columns and indexes of a database, a line each. */
async function schemaOf(server: Connection, database: string): Promise<string[]> {
  const columns = `SELECT CONCAT_WS(' ', table_name, column_name, column_type, is_nullable, column_default, collation_name, extra) AS line
    FROM information_schema.columns WHERE table_schema = ?`;
  const indexes = `SELECT CONCAT_WS(' ', table_name, index_name, seq_in_index, column_name, non_unique) AS line
    FROM information_schema.statistics WHERE table_schema = ?`;
  const [rows] = await server.query<RowDataPacket[]>(`${columns} UNION ALL ${indexes}`, [database, database]);
  return rows.map(({ line }) => `${line}`);
}
