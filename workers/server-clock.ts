/**
 * Temporal's clock, as this process knows it. Times that Temporal has stamped are compared with this clock, never with the
 * machine's own, which may differ by seconds or be set while the process runs.
 */
export interface ServerClock {
  /** Notes a time that Temporal has stamped, in epoch milliseconds. */
  observe(stamp: number): void;
  /** Temporal's time, in epoch milliseconds: late by the delay of the fastest message of the last minutes, never early. */
  now(): number;
}

/** The difference between the clocks is taken anew within twice this time. */
const WINDOW_MS = 120_000;

/** The clocks may drift apart by 0.1 ms a second: an older difference is not used. */
const MAX_AGE_MS = 3_600_000;

/** `elapsed`: milliseconds on a monotonic clock. */
export function createServerClock(elapsed = () => performance.now()): ServerClock {
  // A stamp lies in the past by its delay, so the smallest difference seen is the nearest to the true one.
  let smallest = Number.POSITIVE_INFINITY;
  let smallestBefore = Number.POSITIVE_INFINITY;
  let windowEnds = elapsed() + WINDOW_MS;

  return {
    observe(stamp) {
      const now = elapsed();
      if (now >= windowEnds) {
        smallestBefore = now - windowEnds <= MAX_AGE_MS ? smallest : Number.POSITIVE_INFINITY;
        smallest = Number.POSITIVE_INFINITY;
        windowEnds = now + WINDOW_MS;
      }
      smallest = Math.min(smallest, now - stamp);
    },
    now: () => elapsed() - Math.min(smallest, smallestBefore),
  };
}
