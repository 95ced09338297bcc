import type { Database } from './database.ts';
import { openMySql } from './mysql.ts';
import { openPlanetScale } from './planetscale.ts';

/** Opens the database of a URL, whose form says how it is reached: `mysql://`, or `https://` for PlanetScale's protocol. */
export function openDatabase(url: string): Database {
  return url.startsWith('mysql:') ? openMySql(url) : openPlanetScale(url);
}
