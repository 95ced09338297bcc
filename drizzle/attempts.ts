/** Failed attempts at activities, which an order's status shows as its recent errors. */
import { FailedAttempt } from '@trellis/contracts/order-status';
import { desc, eq, sql } from 'drizzle-orm';
import { columnsFor } from './columns.ts';
import type { Database } from './database.ts';
import { attempts } from './schema.ts';

export type AttemptRecord = Omit<FailedAttempt, 'ts'> & { order_id: string };

export interface RecentAttempts {
  errors: FailedAttempt[];
  /** The number of failed attempts at the activity that failed last. */
  failures: number;
}

export type AttemptStore = ReturnType<typeof createAttemptStore>;

/** The length of the column `error`. */
const MAX_ERROR_LENGTH = 500;

export function createAttemptStore(db: Database) {
  return {
    /** Writes all records in one statement. */
    add: (records: AttemptRecord[]) =>
      db.run((session) =>
        session
          .insert(attempts)
          .values(records.map((record) => ({ ...record, error: record.error.slice(0, MAX_ERROR_LENGTH) }))),
      ),

    /** The newest `limit` failures of the order, newest first. */
    recent: (orderId: string, limit: number): Promise<RecentAttempts> =>
      db.run(async (session) => {
        const failures = sql<number>`COUNT(*) OVER (PARTITION BY ${attempts.step})`.mapWith(Number);
        const rows = await session
          .select({ failed: columnsFor(attempts, FailedAttempt), failures })
          .from(attempts)
          .where(eq(attempts.order_id, orderId))
          .orderBy(desc(attempts.id))
          .limit(limit);
        return { errors: rows.map(({ failed }) => failed), failures: rows[0]?.failures ?? 0 };
      }),
  };
}
