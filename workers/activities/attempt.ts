import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { ACTIVITIES, type ActivityName } from '@trellis/contracts/activities';
import type { AttemptRecord } from '@trellis/drizzle/attempts';
import pRetry, { AbortError } from 'p-retry';
import pTimeout from 'p-timeout';

/** What every activity needs to run its attempts. */
export interface AttemptDeps {
  /** The injected fault, awaited first by the attempts of the activities that `ACTIVITIES` marks `flaky`; absent in production. */
  flakyCall?: () => Promise<void>;
  onFailedAttempt(record: AttemptRecord): void;
}

/** The order that the activity works on. `deadline_at`: epoch milliseconds; absent for work that must be finished however long it takes. */
export interface ActivityInput {
  order_id: string;
  deadline_at?: number;
}

/** Short, because the exercise's fault sleeps for minutes and an activity has seconds. */
const FLAKY_CALL_TIMEOUT_MS = 50;
/** Longer, because databases and other companies are slower and a repeated call costs more than waiting. */
const EFFECT_TIMEOUT_MS = 2_000;
/** After this a remote activity starts no further attempt and fails; Temporal then schedules it anew, perhaps on another worker. */
const REMOTE_RETRY_TIME_MS = 3_500;
/** After this many failures of its effect a local activity fails; the workflow then runs it remotely. */
const MAX_LOCAL_EFFECT_FAILURES = 3;

/**
 * Runs an activity's effect until it succeeds: the inner, quick layer of retries. Temporal's retry policy is the outer one.
 * `effect` must be repeatable, also while an earlier, abandoned attempt of it still runs.
 * Fails with the application failure `DEADLINE` once the deadline has passed, else with the last error.
 */
export async function attempt<T>(
  { flakyCall, onFailedAttempt }: AttemptDeps,
  { order_id, deadline_at }: ActivityInput,
  effect: () => Promise<T>,
): Promise<T> {
  const { info, cancellationSignal } = Context.current();
  const { flaky } = ACTIVITIES[info.activityType as ActivityName];
  let effectFailures = 0;

  async function attemptOnce(): Promise<T> {
    if (deadline_at !== undefined && Date.now() > deadline_at)
      throw new AbortError(
        ApplicationFailure.nonRetryable(`${info.activityType}: the deadline has passed`, 'DEADLINE'),
      );
    if (flaky && flakyCall)
      await pTimeout(flakyCall(), {
        milliseconds: FLAKY_CALL_TIMEOUT_MS,
        message: `hung for ${FLAKY_CALL_TIMEOUT_MS} ms`,
      });
    try {
      return await pTimeout(effect(), { milliseconds: EFFECT_TIMEOUT_MS });
    } catch (error) {
      effectFailures += 1;
      throw error;
    }
  }

  return pRetry(attemptOnce, {
    retries: Number.POSITIVE_INFINITY,
    maxRetryTime: info.isLocal ? Number.POSITIVE_INFINITY : REMOTE_RETRY_TIME_MS,
    minTimeout: 10,
    maxTimeout: 50,
    randomize: true,
    signal: cancellationSignal,
    onFailedAttempt: ({ error, attemptNumber }) =>
      onFailedAttempt({ order_id, step: info.activityType, attempt: attemptNumber, error: error.message }),
    shouldRetry: () => !(info.isLocal && effectFailures >= MAX_LOCAL_EFFECT_FAILURES),
  });
}
