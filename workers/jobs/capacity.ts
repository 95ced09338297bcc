/** Tells the API how many orders a second the workers can take on, by measuring what they do. */
import { setTimeout } from 'node:timers/promises';
import { activityInfo } from '@temporalio/activity';
import type { ActivityInterceptors } from '@temporalio/worker';
import type { CapacityStore, Rates } from '@trellis/drizzle/capacity';
import type { Logger } from 'pino';

const MEASURE_EVERY_MS = 1_000;
/** Orders that were started together finish together, so their rate is taken over a while. */
const SHORTEST_WINDOW_S = 5;
const LONGEST_WINDOW_S = 10;
/** An activity that waits longer than this for its worker tells that the machine is full. Milliseconds. */
const BEHIND_MS = 200;
/** Not even a broken worker is told to do nothing, or it would never show that it has recovered. */
const LEAST_RATE = 2;

export interface WaitLog {
  /** Notes how long each activity waited from being scheduled to being started. */
  interceptor: () => ActivityInterceptors;
  /** The median wait since it was last asked, in milliseconds; undefined when nothing was started. */
  take(): number | undefined;
}

export function createWaitLog(): WaitLog {
  let waits: number[] = [];
  return {
    interceptor: () => ({
      inbound: {
        execute(input, next) {
          const { isLocal, currentAttemptScheduledTimestampMs } = activityInfo();
          if (!isLocal) waits.push(Date.now() - currentAttemptScheduledTimestampMs);
          return next(input);
        },
      },
    }),
    take() {
      const sorted = waits.toSorted((one, other) => one - other);
      waits = [];
      return sorted[Math.floor(sorted.length / 2)];
    },
  };
}

/**
 * The rate to promise from now on. Workers that have been behind for a while show all they can do; those that keep up with
 * all they are given are given a little more.
 */
export function nextRate({ ordersPerSecond, shippedPerSecond }: Rates, secondsBehind: number): number {
  if (secondsBehind >= SHORTEST_WINDOW_S)
    return Math.max(LEAST_RATE, ordersPerSecond + 0.2 * (shippedPerSecond - ordersPerSecond));
  if (secondsBehind > 0) return ordersPerSecond;
  return Math.max(ordersPerSecond, Math.min(1.05 * ordersPerSecond, 1.1 * shippedPerSecond));
}

/** Measures every second until it is told to stop. Any number of workers may measure at once. */
export async function measureCapacity(measuring: {
  capacity: CapacityStore;
  waits: WaitLog;
  log: Logger;
  signal: AbortSignal;
}): Promise<void> {
  const { capacity, waits, log, signal } = measuring;
  let secondsBehind = 0;
  while (!signal.aborted) {
    await setTimeout(MEASURE_EVERY_MS, undefined, { signal }).catch(() => undefined);
    const wait = waits.take();
    if (wait === undefined) continue;
    secondsBehind = wait > BEHIND_MS ? secondsBehind + 1 : 0;
    try {
      const throughput = await capacity.rates(secondsBehind === 0 ? LONGEST_WINDOW_S : clamp(secondsBehind));
      const rate = nextRate(throughput, secondsBehind);
      if (rate !== throughput.ordersPerSecond) await capacity.setRate(rate);
      log.debug({ wait, secondsBehind, ...throughput, rate }, 'capacity measured');
    } catch (error) {
      log.warn({ err: error }, 'capacity not measured');
    }
  }
}

const clamp = (seconds: number): number => Math.min(Math.max(seconds, SHORTEST_WINDOW_S), LONGEST_WINDOW_S);
