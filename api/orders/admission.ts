/** Admission control: accepts the orders that the workers can finish in time, each shop its share of them, and refuses the rest. */
import { shopOf } from '@trellis/contracts/id';
import { MAX_QUEUE_MS, MAX_UNAPPROVED_ORDERS, type PolicyName } from '@trellis/contracts/policy';
import type { AdmissionStore } from '@trellis/drizzle/capacity';
import { DatabaseError, isOverloaded } from '@trellis/drizzle/database';
import { fallbackOnDatabaseError } from './errors.ts';
import { createExpiringMap } from './expiring-map.ts';

/** Most admission queries at once; more would only queue on the capacity row. */
const MAX_CONCURRENT_QUERIES = 200;
/** Of one shop, so that no shop takes them all. */
const MAX_CONCURRENT_QUERIES_OF_SHOP = 50;
/** How long the count of a shop's orders that await an approval is used. */
const COUNTED_FOR_MS = 1_000;
/** Shops whose refusals are remembered. */
const MAX_SHOPS = 1_000;
/** How long an admitted order is admitted again without a query: longer than its row needs to appear in SQL. */
const ADMITTED_FOR_MS = 15_000;
/** The longest time without a query: orders may be canceled meanwhile, or more workers started. */
const MAX_REFUSING_MS = 1_000;

/** `counted`: whether the admission took up capacity; that of an order sent again does not. `retryAfter`: whole seconds. */
export type AdmissionResult = { admitted: true; counted: boolean } | { admitted: false; retryAfter: number };

export interface Admission {
  /** `orderId`: the recorded one, with its shop. While the database fails every order is admitted, because Temporal stores it. Rejects only on a bug. */
  admit(orderId: string): Promise<AdmissionResult>;
  /** Undoes a counted admission that was not needed. If the database fails, the capacity stays taken for the time of one order. */
  giveBack(orderId: string): Promise<void>;
}

/** The starts of one shop. All times are milliseconds on a monotonic clock. */
interface Starts {
  concurrentQueries: number;
  /** Until then orders are refused without a query. */
  refuseUntil: number;
  /** When the next order can be admitted, as the last query said. */
  freeAt: number;
  /** The retry time given to the last refused order. */
  lastRetryAt: number;
  msPerOrder: number;
}

/**
 * Refused orders get retry times one order's time apart, so that the retries are spread. No `retryAfter` is longer than the
 * queue: when the times reach its end, they begin again in its middle. So the number of refused starts never delays a retry beyond that.
 */
export function createAdmission(capacity: AdmissionStore, policy: PolicyName): Admission {
  const queueMs = MAX_QUEUE_MS[policy];
  const admitted = createExpiringMap<true>(ADMITTED_FOR_MS);
  const shops = createExpiringMap<Starts>(queueMs, MAX_SHOPS);
  const unapproved = createExpiringMap<number>(COUNTED_FOR_MS, MAX_SHOPS);
  let concurrentQueries = 0;

  function startsOf(shop: string): Starts {
    const starts = shops.get(shop) ?? {
      concurrentQueries: 0,
      refuseUntil: 0,
      freeAt: 0,
      lastRetryAt: 0,
      msPerOrder: 0,
    };
    shops.set(shop, starts);
    return starts;
  }

  function refuse(starts: Starts): AdmissionResult {
    const now = performance.now();
    // However long the workers are busy, the second half of the queue's time is there to spread the retries.
    const first = Math.min(Math.max(starts.freeAt, now), now + queueMs / 2);
    const next = Math.max(starts.lastRetryAt, first) + starts.msPerOrder;
    starts.lastRetryAt = next <= now + queueMs ? next : Math.min(now + queueMs / 2 + starts.msPerOrder, now + queueMs);
    return { admitted: false, retryAfter: Math.max(1, Math.ceil((starts.lastRetryAt - now) / 1000)) };
  }

  /** Whether as many orders of the shop await an approval as may. Where there are no shops, any number may. */
  async function isFull(shop: string): Promise<boolean> {
    if (shop === '') return false;
    const counted = unapproved.get(shop) ?? (await capacity.awaitingApproval(shop, MAX_UNAPPROVED_ORDERS));
    unapproved.set(shop, counted);
    return counted >= MAX_UNAPPROVED_ORDERS;
  }

  return {
    async admit(orderId) {
      if (admitted.get(orderId)) return { admitted: true, counted: false };
      const shop = shopOf(orderId);
      const starts = startsOf(shop);
      const mostQueries = shop === '' ? MAX_CONCURRENT_QUERIES : MAX_CONCURRENT_QUERIES_OF_SHOP;
      if (concurrentQueries >= MAX_CONCURRENT_QUERIES || starts.concurrentQueries >= mostQueries) return refuse(starts);
      if (performance.now() < starts.refuseUntil) return refuse(starts);
      concurrentQueries += 1;
      starts.concurrentQueries += 1;
      try {
        if (await isFull(shop)) return refuse(starts);
        const decision = await capacity.admit(queueMs / 1000, shop);
        // A concurrent request for the same order may have been admitted meanwhile.
        if (decision.admitted || admitted.get(orderId)) {
          admitted.set(orderId, true);
          return { admitted: true, counted: decision.admitted };
        }
        starts.freeAt = performance.now() + 1000 * decision.freeIn;
        starts.refuseUntil = Math.min(starts.freeAt, performance.now() + MAX_REFUSING_MS);
        starts.msPerOrder = 1000 / decision.ordersPerSecond;
        return refuse(starts);
      } catch (error) {
        if (!(error instanceof DatabaseError)) throw error;
        return isOverloaded(error) ? refuse(starts) : { admitted: true, counted: false };
      } finally {
        concurrentQueries -= 1;
        starts.concurrentQueries -= 1;
      }
    },
    async giveBack(orderId) {
      await fallbackOnDatabaseError(capacity.release(shopOf(orderId)), undefined);
    },
  };
}
