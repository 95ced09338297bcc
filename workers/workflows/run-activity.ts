/** How workflows run their activities: as a local activity where that is possible, else as a remote one. */
import { isCancellation, proxyActivities, proxyLocalActivities, workflowInfo } from '@temporalio/workflow';
import type { ActivityName } from '@trellis/contracts/activities';
import type { Policy } from '@trellis/contracts/policy';
import type { Activities } from '../activities/index.ts';
import { mayRunLocally } from './bounds.ts';

type Input<N extends ActivityName> = Parameters<Activities[N]>[0];
type Output<N extends ActivityName> = Awaited<ReturnType<Activities[N]>>;
type RunActivity<N extends ActivityName> = (input: Input<N>) => Promise<Output<N>>;

/** An activity that has a deadline did not finish before it. */
export class DeadlineExceeded extends Error {
  override readonly name = 'DeadlineExceeded';
}

/** Longer than a remote activity needs to end by itself: it expires only when the activity's worker has died. */
const REMOTE_TIMEOUT_MS = 6_000;
/** Added to the time left of a local activity, which ends by itself at its deadline. */
const LOCAL_TIMEOUT_MARGIN_MS = 1_000;
const LOCAL_TIMEOUT_WITHOUT_DEADLINE_MS = 60_000;

/**
 * Runs an activity that only uses the database inside the workflow task, without further history events. When that fails,
 * as in a database outage, runs it remotely, where retries add no history events.
 * Throws DeadlineExceeded when `deadline_at` passes. Only the activity decides that it has passed: on replay the workflow's
 * clock may be later than it was, by the time the workflow task was held open. `limit`: after so many milliseconds it runs remotely.
 */
export async function runLocally<N extends ActivityName>(
  name: N,
  input: Input<N>,
  limit = Number.POSITIVE_INFINITY,
): Promise<Output<N>> {
  if (!mayRunLocally()) return runRemotely(name, input);
  try {
    return await serially(() => {
      const timeout = (timeLeft(input) ?? LOCAL_TIMEOUT_WITHOUT_DEADLINE_MS) + LOCAL_TIMEOUT_MARGIN_MS;
      const run = proxyLocalActivities<Activities>({
        startToCloseTimeout: Math.min(timeout, limit),
        retry: { maximumAttempts: 1 },
      })[name] as RunActivity<N>;
      return run({ ...input, sent_at: Date.now(), task_timeout_ms: workflowInfo().taskTimeoutMs });
    });
  } catch (error) {
    if (isCancellation(error) || error instanceof DeadlineExceeded) throw error;
    return runRemotely(name, input);
  }
}

/** Workflows share this module, but a property of the global object is a workflow's own. */
const own = globalThis as { lastLocalActivity?: Promise<unknown>; localActivities?: number };

/** How many local activities are under way or wait for their turn. */
export const localActivities = (): number => own.localActivities ?? 0;

/**
 * Starts `run` when the local activities requested before have ended. Two at once may end in any order, but on replay they
 * end in the order in which they began.
 */
function serially<T>(run: () => Promise<T>): Promise<T> {
  own.localActivities = localActivities() + 1;
  const result = (own.lastLocalActivity ?? Promise.resolve()).then(run);
  const over = () => {
    own.localActivities = localActivities() - 1;
  };
  own.lastLocalActivity = result.then(over, over);
  return result;
}

/**
 * Runs an activity that calls another company: first inside the workflow task, where a quick answer costs no further history events,
 * for at most `call_in_task_ms`, as no command is decided meanwhile; without one remotely from the start.
 */
export const runQuickly = <N extends ActivityName>(
  name: N,
  input: Input<N>,
  { call_in_task_ms }: Pick<Policy, 'call_in_task_ms'>,
): Promise<Output<N>> =>
  call_in_task_ms === undefined ? runRemotely(name, input) : runLocally(name, input, call_in_task_ms);

/**
 * Runs an activity that may take long or must survive this worker. Temporal retries it until it succeeds.
 * Throws DeadlineExceeded when `deadline_at` passes; as above, only the activity decides that it has.
 */
export async function runRemotely<N extends ActivityName>(name: N, input: Input<N>): Promise<Output<N>> {
  const left = timeLeft(input);
  const run = proxyActivities<Activities>({
    startToCloseTimeout: REMOTE_TIMEOUT_MS,
    ...(left === undefined ? {} : { scheduleToCloseTimeout: left }),
    retry: { initialInterval: 100, maximumInterval: 10_000 },
  })[name] as RunActivity<N>;
  try {
    return await run(input);
  } catch (error) {
    throw left === undefined || isCancellation(error) ? error : new DeadlineExceeded(name, { cause: error });
  }
}

/** Milliseconds, at least 1: zero would mean no limit to Temporal. */
function timeLeft({ deadline_at }: { deadline_at?: number }): number | undefined {
  return deadline_at === undefined ? undefined : Math.max(1, deadline_at - Date.now());
}
