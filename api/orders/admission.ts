/** Admission control: accepts the orders that the workers can finish in time and refuses the rest. */
import { MAX_QUEUE_MS, type PolicyName } from '@trellis/contracts/policy';
import type { AdmissionStore } from '@trellis/drizzle/capacity';
import { DatabaseError, isOverloaded } from '@trellis/drizzle/database';
import { fallbackOnDatabaseError } from './errors.ts';
import { createExpiringMap } from './expiring-map.ts';

/** Most admission queries at once; more would only queue on the capacity row. */
const MAX_CONCURRENT_QUERIES = 200;
/** How long an admitted order is admitted again without a query: longer than its row needs to appear in SQL. */
const ADMITTED_FOR_MS = 15_000;
/** The longest time without a query: orders may be canceled meanwhile, or more workers started. */
const MAX_REFUSING_MS = 1_000;

/** `counted`: whether the admission took up capacity; that of an order sent again does not. `retryAfter`: whole seconds. */
export type AdmissionResult = { admitted: true; counted: boolean } | { admitted: false; retryAfter: number };

export interface Admission {
  /** While the database fails every order is admitted, because Temporal stores it. Rejects only on a bug. */
  admit(orderId: string): Promise<AdmissionResult>;
  /** Undoes a counted admission that was not needed. If the database fails, the capacity stays taken for the time of one order. */
  giveBack(): Promise<void>;
}

/**
 * Refused orders get retry times one order's time apart, so that the retries are spread. No `retryAfter` is longer than the
 * queue: when the times reach its end, they begin again in its middle. So the number of refused starts never delays a retry beyond that.
 */
export function createAdmission(capacity: AdmissionStore, policy: PolicyName): Admission {
  const queueMs = MAX_QUEUE_MS[policy];
  const admitted = createExpiringMap<true>(ADMITTED_FOR_MS);
  let concurrentQueries = 0;
  // All times are milliseconds on a monotonic clock.
  /** Until then orders are refused without a query. */
  let refuseUntil = 0;
  /** When the next order can be admitted, as the last query said. */
  let freeAt = 0;
  /** The retry time given to the last refused order. */
  let lastRetryAt = 0;
  let msPerOrder = 0;

  function refuse(): AdmissionResult {
    const now = performance.now();
    // However long the workers are busy, the second half of the queue's time is there to spread the retries.
    const first = Math.min(Math.max(freeAt, now), now + queueMs / 2);
    const next = Math.max(lastRetryAt, first) + msPerOrder;
    lastRetryAt = next <= now + queueMs ? next : Math.min(now + queueMs / 2 + msPerOrder, now + queueMs);
    return { admitted: false, retryAfter: Math.max(1, Math.ceil((lastRetryAt - now) / 1000)) };
  }

  return {
    async admit(orderId) {
      if (admitted.get(orderId)) return { admitted: true, counted: false };
      if (concurrentQueries >= MAX_CONCURRENT_QUERIES || performance.now() < refuseUntil) return refuse();
      concurrentQueries += 1;
      try {
        const decision = await capacity.admit(queueMs / 1000);
        // A concurrent request for the same order may have been admitted meanwhile.
        if (decision.admitted || admitted.get(orderId)) {
          admitted.set(orderId, true);
          return { admitted: true, counted: decision.admitted };
        }
        freeAt = performance.now() + 1000 * decision.freeIn;
        refuseUntil = Math.min(freeAt, performance.now() + MAX_REFUSING_MS);
        msPerOrder = 1000 / decision.ordersPerSecond;
        return refuse();
      } catch (error) {
        if (!(error instanceof DatabaseError)) throw error;
        return isOverloaded(error) ? refuse() : { admitted: true, counted: false };
      } finally {
        concurrentQueries -= 1;
      }
    },
    async giveBack() {
      await fallbackOnDatabaseError(capacity.release(), undefined);
    },
  };
}
