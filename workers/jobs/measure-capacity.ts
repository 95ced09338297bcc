/** Measures how many orders a second the workers can take on; the API's admission reads the rate from SQL. */
import { setTimeout } from 'node:timers/promises';
import { activityInfo } from '@temporalio/activity';
import type { ActivityInterceptors } from '@temporalio/worker';
import type { CapacityStore, Rates } from '@trellis/drizzle/capacity';
import type { Logger } from 'pino';
import type { ActivityInput } from '../activities/attempt.ts';
import type { ServerClock } from '../server-clock.ts';

const MEASURE_INTERVAL_MS = 1_000;
/** Throughput is taken over several seconds, because orders that were started together finish together. */
const MIN_WINDOW_S = 5;
const MAX_WINDOW_S = 10;
/** Work that waits this long means that the workers are overloaded. */
const OVERLOAD_LATENCY_MS = 500;
/** Orders a second. At zero no order would arrive, and recovery could not be measured. */
const MIN_RATE = 2;
/** The table's initial value, used until something has been measured. */
const INITIAL_RATE = 8;

/** Collects how long work waits in Temporal's queues: a remote activity since it was scheduled, a run's first local one since the run's start. */
export interface StartLatencies {
  interceptor: () => ActivityInterceptors;
  /** The median since the last call, in milliseconds; undefined when no activity has started since. */
  takeMedian(): number | undefined;
}

export function createStartLatencies(clock: ServerClock): StartLatencies {
  let latencies: number[] = [];
  return {
    interceptor: () => ({
      inbound: {
        execute(input, next) {
          const { isLocal, currentAttemptScheduledTimestampMs } = activityInfo();
          const scheduled = isLocal
            ? (input.args as [ActivityInput])[0].run_started_at
            : currentAttemptScheduledTimestampMs;
          if (scheduled !== undefined) {
            clock.observe(scheduled);
            latencies.push(clock.now() - scheduled);
          }
          return next(input);
        },
      },
    }),
    takeMedian() {
      const sorted = latencies.toSorted((one, other) => one - other);
      latencies = [];
      return sorted[Math.floor(sorted.length / 2)];
    },
  };
}

/**
 * The next rate, in orders a second. After `MIN_WINDOW_S` of overload it moves towards what the workers ship. Without overload
 * it grows a little as long as the workers ship nearly all that is admitted; up to `INITIAL_RATE` it also grows, slower,
 * when few orders arrive: else a shop with little traffic would keep the low rate that one overload left.
 */
export function nextRate({ ordersPerSecond, shippedPerSecond }: Rates, secondsOverloaded: number): number {
  if (secondsOverloaded >= MIN_WINDOW_S)
    return Math.max(MIN_RATE, ordersPerSecond + 0.2 * (shippedPerSecond - ordersPerSecond));
  if (secondsOverloaded > 0) return ordersPerSecond;
  const proven = Math.min(1.05 * ordersPerSecond, 1.1 * shippedPerSecond);
  const presumed = Math.min(1.01 * ordersPerSecond, INITIAL_RATE);
  return Math.max(ordersPerSecond, proven, presumed);
}

interface MeasureDeps {
  capacity: CapacityStore;
  latencies: StartLatencies;
  log: Logger;
  /** Stops the measurement when it aborts. */
  signal: AbortSignal;
}

/** Measures every second until `signal` aborts. Any number of workers may measure at once. */
export async function measureCapacity({ capacity, latencies, log, signal }: MeasureDeps): Promise<void> {
  let secondsOverloaded = 0;
  while (!signal.aborted) {
    await setTimeout(MEASURE_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    const latency = latencies.takeMedian();
    if (latency === undefined) continue;
    secondsOverloaded = latency > OVERLOAD_LATENCY_MS ? secondsOverloaded + 1 : 0;
    try {
      await capacity.countOpenOrders();
      const throughput = await capacity.rates(secondsOverloaded === 0 ? MAX_WINDOW_S : windowOf(secondsOverloaded));
      const rate = nextRate(throughput, secondsOverloaded);
      if (rate !== throughput.ordersPerSecond) await capacity.setRate(rate);
      log.debug({ latency, secondsOverloaded, ...throughput, rate }, 'capacity measured');
    } catch (error) {
      log.warn({ err: error }, 'capacity not measured');
    }
  }
}

const windowOf = (seconds: number): number => Math.min(Math.max(seconds, MIN_WINDOW_S), MAX_WINDOW_S);
