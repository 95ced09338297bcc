import { setTimeout } from 'node:timers/promises';
import type { AttemptRecord, AttemptStore } from '@trellis/drizzle/attempts';
import type { Logger } from 'pino';

const BATCH_EVERY_MS = 100;
/** While the database is away the newest failures are the ones worth keeping. */
const MAX_PENDING = 1_000;

export interface AttemptLog {
  record(failed: AttemptRecord): void;
  /** Writes what is pending; for the end of the process. */
  flush(): Promise<void>;
}

/** Logs each failed attempt and writes them in batches: a row each would cost the database more than the orders themselves. */
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
      await setTimeout(BATCH_EVERY_MS);
      await flush();
    }
    writing = false;
  }

  return {
    record(failed) {
      log.info(failed, 'retry');
      pending.push(failed);
      if (pending.length > MAX_PENDING) pending.shift();
      if (!writing) void writeSoon();
    },
    flush,
  };
}
