import { setTimeout } from 'node:timers/promises';
import type { AttemptRecord, AttemptStore } from '@trellis/drizzle/attempts';
import type { Logger } from 'pino';

const BATCH_INTERVAL_MS = 100;
/** While the database is unavailable the oldest pending records beyond this are dropped. */
const MAX_PENDING = 1_000;
/** Failures of one order that are written at once; later ones only at the rate below, as an order may fail for hours. */
const BURST = 50;
const WRITTEN_PER_SECOND = 2;
/** The table is cleaned while it is written to: only then does it grow. */
const CLEAN_INTERVAL_MS = 10_000;
const MAX_CHUNKS = 10;

export interface AttemptLog {
  record(failed: AttemptRecord): void;
  /** Writes the pending records; call it before the process ends. */
  flush(): Promise<void>;
}

/**
 * Logs each failed attempt, and writes them to SQL in batches: one statement each would cost the database more than the orders
 * do. Of an order that fails without end not every failure is written, and the oldest are dropped.
 */
export function createAttemptLog(store: AttemptStore, log: Logger): AttemptLog {
  const mayWrite = createAllowances();
  let pending: AttemptRecord[] = [];
  let writing = false;
  /** The orders whose failures were written since the last cleaning. */
  let written = new Set<string>();
  let cleanedAt = Date.now();

  async function flush(): Promise<void> {
    const batch = pending;
    pending = [];
    if (batch.length === 0) return;
    try {
      await store.add(batch);
      for (const { order_id } of batch) written.add(order_id);
    } catch (error) {
      log.warn({ err: error, attempts: batch.length }, 'failed attempts not recorded');
    }
  }

  async function writeSoon(): Promise<void> {
    writing = true;
    while (pending.length > 0) {
      await setTimeout(BATCH_INTERVAL_MS);
      await flush();
      if (Date.now() - cleanedAt >= CLEAN_INTERVAL_MS) await clean();
    }
    writing = false;
  }

  async function clean(): Promise<void> {
    const orders = [...written];
    written = new Set();
    cleanedAt = Date.now();
    try {
      await store.dropExcess(orders);
      for (let chunk = 0; chunk < MAX_CHUNKS && (await store.dropOld()); chunk += 1);
    } catch (error) {
      log.warn({ err: error }, 'failed attempts not cleaned up');
    }
  }

  return {
    record(failed) {
      log.info(failed, 'attempt failed');
      if (!mayWrite(failed.order_id)) return;
      pending.push(failed);
      if (pending.length > MAX_PENDING) pending.shift();
      if (!writing) void writeSoon();
    },
    flush,
  };
}

/** Tells whether a failure of the order may be written: BURST at once, then WRITTEN_PER_SECOND. An order that fails no more is forgotten. */
function createAllowances(): (orderId: string) => boolean {
  /** The least recently used first. */
  const allowances = new Map<string, { left: number; at: number }>();
  const refilled = ({ left, at }: { left: number; at: number }, now: number) =>
    Math.min(BURST, left + (WRITTEN_PER_SECOND * (now - at)) / 1000);

  return (orderId) => {
    const now = Date.now();
    for (const [id, allowance] of allowances) {
      if (refilled(allowance, now) < BURST) break;
      allowances.delete(id);
    }
    const left = refilled(allowances.get(orderId) ?? { left: BURST, at: now }, now);
    allowances.delete(orderId);
    allowances.set(orderId, { left: left < 1 ? left : left - 1, at: now });
    return left >= 1;
  };
}
