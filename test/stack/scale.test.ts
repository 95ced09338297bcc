/** What calls cost the database: rows read, which do not grow with the number of orders, and statements. Counted, not timed. */
import { createStatusReader } from '@trellis/api/orders/status';
import { createHttpTemporal } from '@trellis/api/temporal/http';
import { createCapacityStore } from '@trellis/drizzle/capacity';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { freshDatabase, freshId } from '../fixtures.ts';

const ORDERS = 20_000;
const { db, drop } = await freshDatabase();
afterAll(drop);

const capacity = createCapacityStore(db);
const views = createOrderViews(db);

/** By how much `work` raises the server's counters. It runs on the pool's only connection, as nothing else uses this one at the same time. */
async function counted(counters: string, work: () => Promise<unknown>): Promise<number> {
  const total = async () => {
    const answer = await db.run((session) => session.execute(sql`SHOW SESSION STATUS LIKE ${counters}`));
    const [rows] = answer as unknown as [{ Value: string }[]];
    return rows.reduce((sum, { Value }) => sum + Number(Value), 0);
  };
  const before = await total();
  const asking = (await total()) - before;
  const start = await total();
  await work();
  return (await total()) - start - asking;
}

const rowsRead = (work: () => Promise<unknown>) => counted('Handler_read%', work);
const statements = (work: () => Promise<unknown>) => counted('Questions', work);

const start = async (queueSeconds: number) => {
  await views.find(freshId());
  return capacity.admit(queueSeconds);
};
const costs = async () => ({
  admitted: await rowsRead(async () => expect(await start(60)).toMatchObject({ admitted: true })),
  refused: await rowsRead(async () => expect(await start(-1)).toMatchObject({ admitted: false })),
});
/** The first statements on a table read its statistics too. */
const costsOnceWarm = async () => (await costs()) && costs();

let ofEmpty: Awaited<ReturnType<typeof costs>>;

beforeAll(async () => {
  ofEmpty = await costsOnceWarm();
  const digits = sql.raw(`(${Array.from({ length: 10 }, (_, n) => `SELECT ${n} AS n`).join(' UNION ALL ')})`);
  await db.run(
    (session) =>
      session.execute(sql`INSERT INTO orders (id, state, created_at, workflow_id, run_id, step)
        SELECT CONCAT('o-', n), ELT(1 + n % 4, 'awaiting_approval', 'shipping', 'shipped', 'canceled'),
          FROM_UNIXTIME(1700000000 + n), 'w', 'r', 'init'
        FROM (SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n AS n
          FROM ${digits} a, ${digits} b, ${digits} c, ${digits} d, ${digits} e) numbers
        WHERE n < ${ORDERS}`),
    60_000,
  );
});

test('a start reads as many rows with no open order as with thousands, whether it is admitted or refused', async () => {
  await capacity.countOpenOrders();
  // The count has to leave room for one more, which is a matter of the rate.
  await capacity.setRate(ORDERS);
  expect(await costsOnceWarm()).toEqual(ofEmpty);
});

test.each([
  undefined,
  'shipped',
  'canceled',
] as const)('a page of the list, of state %s, reads as many rows behind thousands of orders as at the front', async (state) => {
  const limit = 20;
  const at = (n: number) => btoa(JSON.stringify([new Date(1000 * (1_700_000_000 + n)).toISOString(), `o-${n}`]));
  for (const cursor of [undefined, at(ORDERS - 100), at(ORDERS / 2), at(ORDERS / 10)]) {
    const rows = await rowsRead(async () => {
      expect((await views.list({ state, limit, cursor })).orders).toHaveLength(limit);
    });
    expect(rows).toBeLessThan(limit + 5);
  }
});

const CLOSED_PORT = 'http://127.0.0.1:1';
const atRest = (n: number) => `o-${4 * n + 2}`;
const IN_REVIEW = 'o-4';

test('an order with its rows is one statement', async () => {
  expect(await statements(() => views.view(atRest(0)))).toBe(1);
});

test('a status is one statement, and that of an ended order none while it is asked for again within seconds', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const reader = createStatusReader({
    temporal: createHttpTemporal({ url: CLOSED_PORT, namespace: 'default' }),
    views,
  });
  const reading = (id: string) => statements(() => reader.read(id));
  expect([await reading(IN_REVIEW), await reading(IN_REVIEW)]).toEqual([1, 1]);
  expect([await reading(atRest(0)), await reading(atRest(0))]).toEqual([1, 0]);
  expect(await reader.read(atRest(0))).toMatchObject({ state: 'shipped', source: 'sql' });
  vi.advanceTimersByTime(5_000);
  expect([await reading(atRest(0)), await reading(atRest(0))]).toEqual([1, 0]);
  // The newest thousand are kept.
  for (let n = 1; n <= 1_000; n += 1) await reader.read(atRest(n));
  expect([await reading(atRest(1)), await reading(atRest(0))]).toEqual([0, 1]);
});
