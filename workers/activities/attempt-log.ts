import { setTimeout } from 'node:timers/promises';
import type { AttemptRecord, AttemptStore } from '@trellis/drizzle/attempts';
import type { Logger } from 'pino';

const BATCH_INTERVAL_MS = 100;
/** While the database is unavailable the oldest pending records beyond this are dropped. */
const MAX_PENDING = 1_000;

export interface AttemptLog {
  record(failed: AttemptRecord, reason?: string): void;
  /** Writes the pending records; call it before the process ends. */
  flush(): Promise<void>;
}

/** Logs each failed attempt, and writes them to SQL in batches: one statement each would cost the database more than the orders do. */
export function createAttemptLog(store: AttemptStore, log: Logger): AttemptLog {
  let pending: AttemptRecord[] = [];
  let writing = false;

  async function flush(): Promise<void> {
    const batch = pending;
    pending = [];
    if (batch.length === 0) return;
    try {
      await store.add(batch);
    } catch (error) {
      log.warn({ err: error, attempts: batch.length }, 'failed attempts not recorded');
    }
  }

  async function writeSoon(): Promise<void> {
    writing = true;
    while (pending.length > 0) {
      await setTimeout(BATCH_INTERVAL_MS);
      await flush();
    }
    writing = false;
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
