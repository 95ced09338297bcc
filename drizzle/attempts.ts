/** Failed attempts at activities, which an order's status shows as its recent errors. Old ones are dropped. */
import type { FailedAttempt } from '@trellis/contracts/order-status';
import { and, asc, count, desc, eq, gt, inArray, lte, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { attempts } from './schema.ts';

export type AttemptRecord = Omit<FailedAttempt, 'ts'> & { order_id: string };

export type AttemptStore = ReturnType<typeof createAttemptStore>;

/** Of each order the newest attempts are kept. */
const KEPT_OF_ORDER = 100;
const KEPT_DAYS = 7;
/** Old attempts are deleted in chunks of this size, so that no statement locks many rows. */
const CHUNK = 500;
/** For counting. */
const COUNT_TIMEOUT_MS = 60_000;

const isOld = sql`${attempts.ts} < CURRENT_TIMESTAMP(3) - INTERVAL ${KEPT_DAYS} DAY`;

export function createAttemptStore(db: Database) {
  return {
    /** Writes all records in one statement. */
    add: (records: AttemptRecord[]) => db.run((session) => session.insert(attempts).values(records)),

    /** Deletes the attempts of these orders beyond the newest KEPT_OF_ORDER of each, at most a chunk of each order. */
    dropExcess: async (orderIds: string[]): Promise<void> => {
      if (orderIds.length === 0) return;
      const excessive = await db.run((session) =>
        session
          .select({ order_id: attempts.order_id })
          .from(attempts)
          .where(inArray(attempts.order_id, orderIds))
          .groupBy(attempts.order_id)
          .having(gt(count(), KEPT_OF_ORDER)),
      );
      for (const { order_id } of excessive)
        await db.run(async (session) => {
          const ofOrder = eq(attempts.order_id, order_id);
          const newestFirst = session
            .select({ id: attempts.id })
            .from(attempts)
            .where(ofOrder)
            .orderBy(desc(attempts.id));
          const excess = (await newestFirst.limit(CHUNK).offset(KEPT_OF_ORDER)).map(({ id }) => id);
          if (excess.length > 0) await session.delete(attempts).where(and(ofOrder, inArray(attempts.id, excess)));
        });
    },

    /** How many are older than KEPT_DAYS. */
    countOld: (): Promise<number> =>
      db.run(
        async (session) => (await session.select({ old: count() }).from(attempts).where(isOld))[0]?.old ?? 0,
        COUNT_TIMEOUT_MS,
      ),

    /** Deletes the oldest chunk of the attempts that are older than KEPT_DAYS; returns true when there may be more of them. */
    dropOld: (): Promise<boolean> =>
      db.run(async (session) => {
        // Ids ascend with time, and the time has no index.
        const oldestFirst = session
          .select({ id: attempts.id, isOld: sql`${isOld}`.mapWith((value) => Number(value) === 1) })
          .from(attempts)
          .orderBy(asc(attempts.id));
        const chunk = await oldestFirst.limit(CHUNK);
        const last = chunk.findLast((one) => one.isOld);
        if (last) await session.delete(attempts).where(and(lte(attempts.id, last.id), isOld));
        return chunk.length === CHUNK && last === chunk.at(-1);
      }),
  };
}
