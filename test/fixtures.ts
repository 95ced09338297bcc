/** What tests start from: fresh ids, orders, databases. */
import { randomBytes } from 'node:crypto';
import type { StartInput } from '@trellis/contracts/order';
import { openDatabase } from '@trellis/drizzle/client';
import type { Database } from '@trellis/drizzle/database';
import { migrate } from '@trellis/drizzle/migrate';
import { overHttp } from '@trellis/local/stack/stack';
import { createConnection } from 'mysql2/promise';
import { inject } from 'vitest';

export const freshId = (prefix = 'o'): string => `${prefix}-${randomBytes(6).toString('hex')}`;

/** What an order that ships leaves in its trail, in this order. */
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

/** A migrated database of its own on the shared server, for tests that judge a whole database. */
export async function freshDatabase(): Promise<{
  url: string;
  /** The same one as PlanetScale's driver reaches it. */
  httpUrl: string;
  db: Database;
  drop(): Promise<void>;
}> {
  const url = new URL(inject('addresses').DATABASE_URL);
  const name = `test_${randomBytes(6).toString('hex')}`;
  const server = await createConnection(url.href);
  await server.query(`CREATE DATABASE ${name}`);
  url.pathname = `/${name}`;
  await migrate(url.href);
  const db = openDatabase(url.href);
  return {
    url: url.href,
    httpUrl: overHttp(url.href, Number(new URL(inject('addresses').PLANETSCALE_URL ?? '').port)),
    db,
    async drop() {
      await db.close();
      await server.query(`DROP DATABASE ${name}`);
      await server.end();
    },
  };
}

/** Asks every so many milliseconds until `read` answers something; fails after `within` milliseconds. */
export async function eventually<T>(
  read: () => Promise<T | undefined | false>,
  within = 15_000,
  every = 50,
): Promise<T> {
  const end = Date.now() + within;
  for (;;) {
    const answer = await read();
    if (answer) return answer as T;
    if (Date.now() > end) throw new Error(`did not happen within ${within} ms`);
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}

/** Numbers from 0 to 1 that are the same on every run (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
