/** Lets in the orders that the workers can finish in time, and no more. */
import { MAX_QUEUE_MS, type PolicyName } from '@trellis/contracts/policy';
import type { CapacityStore } from '@trellis/drizzle/capacity';
import { isOverloaded } from '@trellis/drizzle/database';
import { dropExpired } from './expiring-map.ts';

/** More at once would only make each other, and the workers, wait. */
const DECIDED_AT_ONCE = 200;
/** How long an order that was let in may be sent again before its row tells that it is known. */
const REMEMBERED_MS = 15_000;

/** `counted`: whether it took up capacity, which an order that is sent again does not. `retryAfter`: whole seconds. */
export type AdmissionResult = { admitted: true; counted: boolean } | { admitted: false; retryAfter: number };

export interface Admission {
  /** Never fails. What can't be judged because there is no database is let in: Temporal keeps it. */
  admit(orderId: string): Promise<AdmissionResult>;
  /** Undoes a counted admission that wasn't needed; if that fails, it is over after a moment all the same. */
  giveBack(): Promise<void>;
}

/** Each order that is turned away gets a turn of its own, so that those who come back don't come back together. */
export function createAdmission(capacity: CapacityStore, policy: PolicyName): Admission {
  const queueSeconds = MAX_QUEUE_MS[policy] / 1000;
  const letIn = new Map<string, { at: number }>();
  let deciding = 0;
  /** Epoch milliseconds: before that no order is let in; until then turns are given out. */
  let fullUntil = 0;
  let turnsUntil = 0;
  let msPerOrder = 0;

  function remember(orderId: string): void {
    dropExpired(letIn, REMEMBERED_MS);
    letIn.set(orderId, { at: Date.now() });
  }

  function turnAway(): AdmissionResult {
    const now = Date.now();
    turnsUntil = Math.max(turnsUntil, fullUntil, now) + msPerOrder;
    return { admitted: false, retryAfter: Math.max(1, Math.ceil((turnsUntil - now) / 1000)) };
  }

  return {
    async admit(orderId) {
      if (letIn.has(orderId)) return { admitted: true, counted: false };
      if (deciding >= DECIDED_AT_ONCE || Date.now() < fullUntil) return turnAway();
      deciding += 1;
      try {
        const decision = await capacity.admit(queueSeconds);
        // The same order may have been let in meanwhile.
        if (decision.admitted || letIn.has(orderId)) {
          remember(orderId);
          return { admitted: true, counted: decision.admitted };
        }
        fullUntil = Date.now() + 1000 * decision.freeIn;
        msPerOrder = 1000 / decision.ordersPerSecond;
        return turnAway();
      } catch (error) {
        return isOverloaded(error) ? turnAway() : { admitted: true, counted: false };
      } finally {
        deciding -= 1;
      }
    },
    giveBack: () =>
      capacity.giveBack().then(
        () => undefined,
        () => undefined,
      ),
  };
}
