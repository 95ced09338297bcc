import { setTimeout } from 'node:timers/promises';
import type { AttemptRecord, AttemptStore } from '@trellis/drizzle/attempts';
import type { Logger } from 'pino';

const BATCH_INTERVAL_MS = 100;
/** While the database is unavailable the oldest pending records beyond this are dropped. */
const MAX_PENDING = 1_000;
/** The table is cleaned after writes only, at most this often: without writes it does not grow. */
const CLEAN_INTERVAL_MS = 10_000;
/** Most orders, and most chunks of old attempts, that one cleaning looks at; the next one goes on. */
const MAX_CLEANED = 1_000;
const MAX_CHUNKS = 10;

export interface AttemptLog {
  record(failed: AttemptRecord, reason?: string): void;
  /** Writes the pending records; call it before the process ends. */
  flush(): Promise<void>;
}

/**
 * Logs each failed attempt, and writes them to SQL in batches: one statement for each attempt would cost the database more than the
 * orders do. Deletes old ones, so that the table stays small.
 */
export function createAttemptLog(store: AttemptStore, log: Logger): AttemptLog {
  let pending: AttemptRecord[] = [];
  let writing = false;
  /** The orders whose failures were written since the last cleaning. */
  let written = new Set<string>();
  let cleanedAt = performance.now();

  async function flush(): Promise<void> {
    const batch = pending;
    pending = [];
    if (batch.length === 0) return;
    try {
      await store.add(batch);
      for (const { order_id } of batch) if (written.size < MAX_CLEANED) written.add(order_id);
    } catch (error) {
      log.warn({ err: error, attempts: batch.length }, 'failed attempts not recorded');
    }
  }

  async function writeSoon(): Promise<void> {
    writing = true;
    while (pending.length > 0) {
      await setTimeout(BATCH_INTERVAL_MS);
      await flush();
      if (performance.now() - cleanedAt >= CLEAN_INTERVAL_MS) await clean();
    }
    writing = false;
  }

  async function clean(): Promise<void> {
    const orders = [...written];
    written = new Set();
    cleanedAt = performance.now();
    try {
      await store.dropExcess(orders);
      for (let chunk = 0; chunk < MAX_CHUNKS && (await store.dropOld()); chunk += 1);
    } catch (error) {
      log.warn({ err: error }, 'failed attempts not cleaned up');
    }
  }

  return {
    record(failed, reason) {
      log.info({ ...failed, reason }, 'attempt failed');
      pending.push(failed);
      if (pending.length > MAX_PENDING) pending.shift();
      if (!writing) void writeSoon();
    },
    flush,
  };
}
