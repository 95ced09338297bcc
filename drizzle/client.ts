import type { Database } from './database.ts';
import { openMySql } from './mysql.ts';
import { openPlanetScale } from './planetscale.ts';

/** Opens the database of a URL by its scheme: `mysql://` with mysql2, `https://` or `http://` with PlanetScale's driver. */
export function openDatabase(url: string): Database {
  return url.startsWith('mysql:') ? openMySql(url) : openPlanetScale(url);
}
