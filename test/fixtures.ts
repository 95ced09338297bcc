/** Ids, orders and databases that no other test uses, polling, and reproducible random numbers. */
import { randomBytes } from 'node:crypto';
import { createOrdersClient, type OrdersClient } from '@trellis/client';
import type { AuthConfig } from '@trellis/contracts/config/variables';
import type { StartInput } from '@trellis/contracts/order';
import { openDatabase } from '@trellis/drizzle/client';
import type { Database } from '@trellis/drizzle/database';
import { importPrices } from '@trellis/drizzle/import-prices';
import { migrate } from '@trellis/drizzle/migrate';
import { readPriceList } from '@trellis/drizzle/price-csv';
import { brokenTrails } from '@trellis/drizzle/trail-audit';
import { emptyDatabase } from '@trellis/local/stack/database-server';
import { atGateway } from '@trellis/local/stack/node-programs';
import { createConnection } from 'mysql2/promise';
import { type Api, need } from './servers.ts';

/** An API that asks for no tokens. */
export const AUTH_OFF: AuthConfig = { AUTH: 'off', AUTH_AUDIENCE: 'trellis-orders' };

export const freshId = (prefix = 'o'): string => `${prefix}-${randomBytes(6).toString('hex')}`;

/** The header with the token of a call's caller, where the API asks for one. `path`: of REST or tRPC. */
export const tokenFor = ({ tokens }: Api, path: string): Record<string, string> =>
  tokens ? { authorization: `Bearer ${path.includes('signal') ? tokens.deciding : tokens.starting}` } : {};

/** A client of the API; where that asks for tokens, one caller starts and reads orders, and another decides them. */
export function clientOf({ url, tokens }: Api): OrdersClient {
  const starting = createOrdersClient(url, tokens && { token: tokens.starting });
  const deciding = createOrdersClient(url, tokens && { token: tokens.deciding });
  const { start, status, get, list, erase } = starting;
  return { start, status, get, list, erase, signal: deciding.signal };
}

/** The events of an order that ships, in order. */
export const HAPPY_EVENTS = [
  'order_received',
  'order_validated',
  'order_approved',
  'payment_charged',
  'package_prepared',
  'carrier_dispatched',
  'order_shipped',
];

export function anOrder(given: Partial<StartInput> = {}): StartInput {
  const order_id = given.order_id ?? freshId();
  return {
    order_id,
    payment_id: `pay-${order_id}`,
    address: { line1: '123 Main', city: 'Chicago' },
    items: [{ sku: 'ABC', qty: 2 }],
    ...given,
  };
}

/**
 * A new migrated database on the run's server, for tests that check the contents of a whole database. Where none can be
 * created it is the run's own, emptied: then only the newest one may still be used.
 */
export async function freshDatabase(): Promise<{ url: string; db: Database; drop(): Promise<void> }> {
  const { DATABASE_URL, canCreateDatabases } = await need('database');
  if (!canCreateDatabases) {
    await emptyDatabase(DATABASE_URL);
    const db = openDatabase(DATABASE_URL);
    // Emptied for the API of other tests too: what remains of an admission rate would hold their orders up.
    return { url: DATABASE_URL, db, drop: () => db.close().then(() => emptyDatabase(DATABASE_URL)) };
  }
  const url = new URL(DATABASE_URL);
  const name = `test_${randomBytes(6).toString('hex')}`;
  const server = await createConnection(url.href);
  await server.query(`CREATE DATABASE ${name}`);
  url.pathname = `/${name}`;
  await migrate(url.href);
  const db = openDatabase(url.href);
  return {
    url: url.href,
    db,
    async drop() {
      await db.close();
      await server.query(`DROP DATABASE ${name}`);
      await server.end();
    },
  };
}

/** The orders whose chain of events is broken, each with what breaks it. */
export async function trailProblems(db: Database, hashedSince?: string) {
  const found = [];
  for await (const broken of brokenTrails(db, hashedSince)) found.push(broken);
  return found;
}

/** The URL at which PlanetScale's driver reaches the database of a `mysql://` URL. */
export async function overGateway(url: string): Promise<string> {
  const { PLANETSCALE_URL } = await need('gateway');
  return atGateway(PLANETSCALE_URL, url);
}

/** Imports the lines of a price list without mistakes, as `npm run prices` does. */
export function importLines(db: Database, lines: string[], shop = '') {
  const { list, mistakes } = readPriceList(['sku,amount,currency,valid_from', ...lines].join('\n'));
  if (mistakes.length > 0) throw new Error(`the lines have mistakes: ${JSON.stringify(mistakes)}`);
  return importPrices(db, shop, list);
}

/** Calls `read` every `every` milliseconds until it resolves with a truthy value; throws after `within` milliseconds. */
export async function eventually<T>(
  read: () => Promise<T | undefined | false>,
  within = 15_000,
  every = 50,
): Promise<T> {
  const end = Date.now() + within;
  for (;;) {
    const value = await read();
    if (value) return value as T;
    if (Date.now() > end) throw new Error(`did not happen within ${within} ms`);
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}

/** A reproducible source of numbers from 0 to 1 (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
