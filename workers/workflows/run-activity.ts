/** How workflows run their activities. */
import { isCancellation, proxyActivities, proxyLocalActivities } from '@temporalio/workflow';
import type { Activities } from '../activities/index.ts';

type Name = keyof Activities;
type Input<N extends Name> = Parameters<Activities[N]>[0];
type Output<N extends Name> = Awaited<ReturnType<Activities[N]>>;
type Run<N extends Name> = (input: Input<N>) => Promise<Output<N>>;

/** A step that had a deadline did not finish before it. */
export class DeadlineExceeded extends Error {
  override readonly name = 'DeadlineExceeded';
}

/** A remote attempt ends itself sooner; this is the net under a worker that died with it. */
const REMOTE_NET_MS = 6_000;
/** A local activity ends itself by its deadline; this is the net under one that doesn't. */
const LOCAL_MARGIN_MS = 1_000;
const LOCAL_WITHOUT_DEADLINE_MS = 60_000;

/**
 * Runs a step that only touches the database inside the workflow task, which costs next to nothing; when that fails,
 * as it does once the database is out, runs it remotely, where waiting costs no history.
 * Throws DeadlineExceeded when `deadline_at` passes. Whether it has passed before is for the activity to say: on replay the clock
 * may stand later than it did, by as long as the task was held open.
 */
export async function runLocally<N extends Name>(name: N, input: Input<N>): Promise<Output<N>> {
  try {
    return await inTurn(() => {
      const run = proxyLocalActivities<Activities>({
        startToCloseTimeout: (timeLeft(input) ?? LOCAL_WITHOUT_DEADLINE_MS) + LOCAL_MARGIN_MS,
        retry: { maximumAttempts: 1 },
      })[name] as Run<N>;
      return run(input);
    });
  } catch (error) {
    if (isCancellation(error) || error instanceof DeadlineExceeded) throw error;
    return runRemotely(name, input);
  }
}

/** The turn of the last local activity that was asked for. A workflow has its own: its modules are loaded for it alone. */
let lastTurn: Promise<unknown> = Promise.resolve();

/**
 * Local activities run one after the other. Two at once end in whatever order, but when the workflow is replayed, in the
 * order in which they began.
 */
function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const turn = lastTurn.then(work);
  lastTurn = turn.catch(() => undefined);
  return turn;
}

/**
 * Runs a step that calls another company, or has to outlast this worker. It is retried until it succeeds;
 * throws DeadlineExceeded when `deadline_at` passes. As above, only the activity says that it had passed before.
 */
export async function runRemotely<N extends Name>(name: N, input: Input<N>): Promise<Output<N>> {
  const left = timeLeft(input);
  const run = proxyActivities<Activities>({
    startToCloseTimeout: REMOTE_NET_MS,
    ...(left === undefined ? {} : { scheduleToCloseTimeout: left }),
    retry: { initialInterval: 100, maximumInterval: 10_000 },
  })[name] as Run<N>;
  try {
    return await run(input);
  } catch (error) {
    throw left === undefined || isCancellation(error) ? error : new DeadlineExceeded(name, { cause: error });
  }
}

/** Milliseconds, never none: to Temporal that would be no limit at all. */
function timeLeft({ deadline_at }: { deadline_at?: number }): number | undefined {
  return deadline_at === undefined ? undefined : Math.max(1, deadline_at - Date.now());
}
