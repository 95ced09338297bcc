/** What a start and a list cost the database does not grow with the number of orders. Counted in rows read, not in time. */
import { createCapacityStore } from '@trellis/drizzle/capacity';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freshDatabase, freshId } from '../fixtures.ts';

const ORDERS = 20_000;
const { db, drop } = await freshDatabase();
afterAll(drop);

const capacity = createCapacityStore(db);
const views = createOrderViews(db);

/** The rows that `work` reads. It runs on the pool's only connection, as nothing else uses this one at the same time. */
async function rowsRead(work: () => Promise<unknown>): Promise<number> {
  const total = async () => {
    const answer = await db.run((session) => session.execute(sql`SHOW SESSION STATUS LIKE 'Handler_read%'`));
    const [rows] = answer as unknown as [{ Value: string }[]];
    return rows.reduce((sum, { Value }) => sum + Number(Value), 0);
  };
  const before = await total();
  const asking = (await total()) - before;
  const start = await total();
  await work();
  return (await total()) - start - asking;
}

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
