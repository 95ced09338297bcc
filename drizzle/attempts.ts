/** Failed attempts at activities, for people who look at an order while it struggles. */
import type { FailedAttempt } from '@trellis/contracts/status';
import { desc, eq } from 'drizzle-orm';
import type { Database } from './client.ts';
import { attempts } from './schema.ts';

export interface AttemptRecord {
  order_id: string;
  step: string;
  attempt: number;
  error: string;
}

export type AttemptStore = ReturnType<typeof createAttemptStore>;

export function createAttemptStore(db: Database) {
  return {
    /** One statement however many. */
    add: (records: AttemptRecord[]) =>
      db.read((session) =>
        session.insert(attempts).values(
          records.map(({ order_id, step, attempt, error }) => ({
            orderId: order_id,
            step,
            attempt,
            error: error.slice(0, 500),
          })),
        ),
      ),

    /** Newest first. */
    recent: (orderId: string, limit: number): Promise<FailedAttempt[]> =>
      db.read(async (session) => {
        const rows = await session
          .select()
          .from(attempts)
          .where(eq(attempts.orderId, orderId))
          .orderBy(desc(attempts.id))
          .limit(limit);
        return rows.map(({ step, attempt, error, ts }) => ({ step, attempt, error, ts: ts.toISOString() }));
      }),
  };
}
