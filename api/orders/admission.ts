/** Admission control: accepts the orders that the workers can finish in time and refuses the rest. */
import { MAX_QUEUE_MS, type PolicyName } from '@trellis/contracts/policy';
import type { CapacityStore } from '@trellis/drizzle/capacity';
import { DatabaseError, isOverloaded } from '@trellis/drizzle/database';
import { fallbackOnDatabaseError } from './errors.ts';
import { createExpiringMap } from './expiring-map.ts';

/** Most admission queries at once; more would only queue on the capacity row. */
const MAX_CONCURRENT_QUERIES = 200;
/** How long an admitted order is admitted again without a query: longer than its row needs to appear in SQL. */
const ADMITTED_FOR_MS = 15_000;

/** `counted`: whether the admission took up capacity; that of an order sent again does not. `retryAfter`: whole seconds. */
export type AdmissionResult = { admitted: true; counted: boolean } | { admitted: false; retryAfter: number };

export interface Admission {
  /** While the database fails every order is admitted, because Temporal stores it. Rejects only on a bug. */
  admit(orderId: string): Promise<AdmissionResult>;
  /** Undoes a counted admission that was not needed. If the database fails, the capacity stays taken for the time of one order. */
  giveBack(): Promise<void>;
}

/** Each refused order gets a `retryAfter` of its own, one order's time apart, so that the retries are spread. */
export function createAdmission(capacity: CapacityStore, policy: PolicyName): Admission {
  const queueSeconds = MAX_QUEUE_MS[policy] / 1000;
  const admitted = createExpiringMap<true>(ADMITTED_FOR_MS);
  let concurrentQueries = 0;
  /** Epoch milliseconds: until then orders are refused without a query. */
  let refuseUntil = 0;
  /** Epoch milliseconds: the latest retry time given to a refused order. */
  let lastRetryAt = 0;
  let msPerOrder = 0;

  function refuse(): AdmissionResult {
    const now = Date.now();
    lastRetryAt = Math.max(lastRetryAt, refuseUntil, now) + msPerOrder;
    return { admitted: false, retryAfter: Math.max(1, Math.ceil((lastRetryAt - now) / 1000)) };
  }

  return {
    async admit(orderId) {
      if (admitted.get(orderId)) return { admitted: true, counted: false };
      if (concurrentQueries >= MAX_CONCURRENT_QUERIES || Date.now() < refuseUntil) return refuse();
      concurrentQueries += 1;
      try {
        const decision = await capacity.admit(queueSeconds);
        // A concurrent request for the same order may have been admitted meanwhile.
        if (decision.admitted || admitted.get(orderId)) {
          admitted.set(orderId, true);
          return { admitted: true, counted: decision.admitted };
        }
        refuseUntil = Date.now() + 1000 * decision.freeIn;
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
