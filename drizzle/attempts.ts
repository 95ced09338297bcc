/** Failed attempts at activities, for people who look at an order while it struggles. */
import type { FailedAttempt } from '@trellis/contracts/status';
import { desc, eq, sql } from 'drizzle-orm';
import type { Database } from './database.ts';
import { attempts } from './schema.ts';

export interface AttemptRecord {
  order_id: string;
  step: string;
  attempt: number;
  error: string;
}

export interface RecentAttempts {
  errors: FailedAttempt[];
  failures: number;
}

export type AttemptStore = ReturnType<typeof createAttemptStore>;

export function createAttemptStore(db: Database) {
  return {
    /** One statement however many. */
    add: (records: AttemptRecord[]) =>
      db.run((session) =>
        session.insert(attempts).values(
          records.map(({ order_id, step, attempt, error }) => ({
            orderId: order_id,
            step,
            attempt,
            error: error.slice(0, 500),
          })),
        ),
      ),

    /** The newest failures of the order, newest first, and how often the activity that failed last has failed. */
    recent: (orderId: string, limit: number): Promise<RecentAttempts> =>
      db.run(async (session) => {
        const rows = await session
          .select({
            step: attempts.step,
            attempt: attempts.attempt,
            error: attempts.error,
            ts: attempts.ts,
            ofStep: sql<number>`COUNT(*) OVER (PARTITION BY ${attempts.step})`.mapWith(Number),
          })
          .from(attempts)
          .where(eq(attempts.orderId, orderId))
          .orderBy(desc(attempts.id))
          .limit(limit);
        return {
          errors: rows.map(({ step, attempt, error, ts }) => ({ step, attempt, error, ts: ts.toISOString() })),
          failures: rows[0]?.ofStep ?? 0,
        };
      }),
  };
}
