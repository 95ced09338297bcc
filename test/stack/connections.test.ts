/** Connections to the database: idle ones that the network forgot, a primary that became read-only, and whatever the server's defaults are. */

import { setTimeout as sleep } from 'node:timers/promises';
import { openDatabase } from '@trellis/drizzle/client';
import type { Session } from '@trellis/drizzle/database';
import { expect, onTestFinished, test } from 'vitest';
import { need } from '../servers.ts';
import { openSqlProxy } from '../trials/sql-proxy.ts';

const { DATABASE_URL } = await need('database');

const connectionId = async (session: Session): Promise<number> => {
  const [rows] = (await session.execute('SELECT CONNECTION_ID() AS id')) as unknown as [{ id: number }[]];
  return rows[0]?.id ?? 0;
};

/** A database behind a proxy, with all 20 connections of its pool open. */
async function throughProxy() {
  const proxy = await openSqlProxy(DATABASE_URL);
  const db = openDatabase(proxy.url);
  onTestFinished(async () => {
    proxy.close();
    await db.close();
  });
  const twenty = () =>
    Promise.all(
      Array.from({ length: 20 }, () =>
        db.transaction(async (session) => {
          await session.execute('SELECT SLEEP(0.2)');
          return connectionId(session);
        }),
      ),
    );
  const open = new Set(await twenty());
  expect(open.size).toBe(20);
  return { db, proxy, open };
}

async function timed<T>(call: Promise<T>): Promise<{ result: T; ms: number }> {
  const start = performance.now();
  return { result: await call, ms: performance.now() - start };
}

test('after the network forgot 20 idle connections the next calls succeed, and only the first one waits', async () => {
  const { db, proxy, open } = await throughProxy();
  await sleep(600);
  proxy.forget();
  const first = await timed(db.transaction(connectionId));
  expect(first.ms).toBeLessThan(1_000);
  expect(open).not.toContain(first.result);
  const later = await timed(Promise.all(Array.from({ length: 20 }, () => db.run(connectionId))));
  expect(later.ms).toBeLessThan(250);
  for (const id of later.result) expect(open).not.toContain(id);
});
