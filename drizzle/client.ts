import type { MySqlTable } from 'drizzle-orm/mysql-core';
import { type Database, failureLine } from './database.ts';
import { openMySql } from './mysql.ts';
import { openPlanetScale } from './planetscale.ts';
import * as schema from './schema.ts';

/**
 * Opens the database of a URL by its scheme: `mysql://` with mysql2, `https://` or `http://` with PlanetScale's driver. Throws a
 * ConfigError when the options of a `mysql://` URL can't be used.
 */
export function openDatabase(url: string): Database {
  return url.startsWith('mysql:') ? openMySql(url) : openPlanetScale(url);
}

/** Errnos of a missing table and of a missing column: the schema is older than this release. */
const OUTDATED_SCHEMA = new Set([1146, 1054]);

/**
 * Whether the database that was opened from the URL in `variable` can be reached and has these tables with all their columns, by
 * default those of the product. Resolves with undefined, or with one line for the log that names the variable and the reason.
 */
export async function checkDatabase(
  db: Database,
  variable: string,
  url: string,
  tables: MySqlTable[] = Object.values(schema),
): Promise<string | undefined> {
  try {
    for (const table of tables) await db.run((session) => session.select().from(table).limit(0));
    return undefined;
  } catch (error) {
    const line = failureLine(variable, url, error);
    if (line === undefined) throw error;
    return OUTDATED_SCHEMA.has((error as { errno?: number }).errno ?? 0) ? `${line}; run npm run migrate` : line;
  }
}
