import { setTimeout } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { ApplicationFailure, TemporalFailure } from '@temporalio/common';
import { ACTIVITIES, type ActivityName, TASK_ENDED } from '@trellis/contracts/activities';
import type { AttemptRecord } from '@trellis/drizzle/attempts';
import { DatabaseError } from '@trellis/drizzle/database';
import pRetry, { AbortError } from 'p-retry';
import pTimeout from 'p-timeout';
import type { ServerClock } from '../server-clock.ts';

/** What every activity needs to run its attempts. */
export interface AttemptDeps {
  /** The injected fault, awaited first by the attempts of the activities that `ACTIVITIES` marks `flaky`; absent in production. */
  flakyCall?: () => Promise<void>;
  /** The clock that deadlines are judged by. */
  clock: ServerClock;
  /** `reason`: for the log only: the database's own words, without values. */
  onFailedAttempt(record: AttemptRecord, reason?: string): void;
}

export interface ActivityInput {
  /** The order that the activity works on. */
  order_id: string;
  /** Temporal's time in epoch milliseconds; absent for work that must be finished however long it takes. */
  deadline_at?: number;
  /** Temporal's time when a workflow ran this as a local activity: Temporal stamps only the remote ones. */
  sent_at?: number;
  /** The time that Temporal gives the workflow task of a local activity, before it gives the task to another worker. */
  task_timeout_ms?: number;
  /** When the run was started, in Temporal's time. Only a run's first activity has it: it tells how long the run waited for a worker. */
  run_started_at?: number;
}

/** Timeout of flaky_call, which sleeps for minutes. Short, because an activity has seconds. */
const FLAKY_CALL_TIMEOUT_MS = 50;
/** Timeout of an effect. Longer, because databases and other companies are slower and a repeated call costs more than waiting. */
const EFFECT_TIMEOUT_MS = 2_000;
/** After this a remote activity starts no further attempt and fails; Temporal then schedules it anew, perhaps on another worker. */
const REMOTE_RETRY_TIME_MS = 3_500;
/** Added to the pause after the first failure of the effect, then doubled up to the longest. */
const EFFECT_PAUSE_MS = 10;
const MAX_EFFECT_PAUSE_MS = 1_000;
/** After this many failures of its effect a local activity fails; the workflow then runs it remotely. */
const MAX_LOCAL_EFFECT_FAILURES = 3;
/** Scheduled more often than this, a remote activity ends at the first failure of its effect: in a long outage Temporal's backoff, which is longer, takes over. */
const QUICK_SCHEDULES = 3;
/**
 * Shares of a workflow task's time. The SDK completes a task after 80 % of it during a local activity, counted from when it got the task:
 * too late for the server if it got it this late.
 */
const LATE = 0.1;
/** Then the task ends before the shortest time limit of a call that is made inside of it. */
const TOO_LATE = 0.8;
/** A little less than all of it: this process knows Temporal's time less the delay of a message. */
const ENDED_AFTER = 0.97;
/** Longest pause before Temporal schedules an activity anew after a permanent error. */
const MAX_PERMANENT_ERROR_PAUSE_MS = 60_000;

/**
 * Runs an activity's effect until it succeeds: the inner, quick layer of retries. Temporal's retry policy is the outer one.
 * `effect` must be repeatable, also while an earlier, abandoned attempt of it still runs.
 * Fails with the application failure `FORBIDDEN` outside of its workflow, `TASK_ENDED` when the workflow task of a local activity has
 * ended before it, `DEADLINE` once the deadline has passed, else with the message of the last error.
 */
export async function attempt<T>(
  { flakyCall, clock, onFailedAttempt }: AttemptDeps,
  { order_id, deadline_at, sent_at, task_timeout_ms }: ActivityInput,
  effect: () => Promise<T>,
): Promise<T> {
  const { info, cancellationSignal } = Context.current();
  const { flaky, workflows } = ACTIVITIES[info.activityType as ActivityName];
  // Whoever may call Temporal can schedule an activity by itself, or from a workflow of their own.
  if (!info.inWorkflow || !workflows.some((name) => name === info.workflowType))
    throw ApplicationFailure.nonRetryable(`${info.activityType} runs in ${workflows.join(' and ')} only`, 'FORBIDDEN');
  const stamp = info.isLocal ? sent_at : info.currentAttemptScheduledTimestampMs;
  if (stamp !== undefined) clock.observe(stamp);
  const maxEffectFailures = info.isLocal
    ? MAX_LOCAL_EFFECT_FAILURES
    : info.attempt > QUICK_SCHEDULES
      ? 1
      : Number.POSITIVE_INFINITY;
  let effectFailures = 0;
  let failedInEffect = false;

  async function attemptOnce(): Promise<T> {
    if (deadline_at !== undefined && clock.now() > deadline_at)
      throw new AbortError(
        ApplicationFailure.nonRetryable(`${info.activityType}: the deadline has passed`, 'DEADLINE'),
      );
    failedInEffect = false;
    if (flaky && flakyCall)
      await pTimeout(flakyCall(), {
        milliseconds: FLAKY_CALL_TIMEOUT_MS,
        message: `hung for ${FLAKY_CALL_TIMEOUT_MS} ms`,
      });
    try {
      return await pTimeout(effect(), { milliseconds: EFFECT_TIMEOUT_MS });
    } catch (error) {
      effectFailures += 1;
      failedInEffect = true;
      throw error;
    }
  }

  async function mayRetry(error: Error): Promise<boolean> {
    if (!failedInEffect) return true;
    if (isPermanent(error) || effectFailures >= maxEffectFailures) return false;
    const pause = Math.min(EFFECT_PAUSE_MS * 2 ** (effectFailures - 1), MAX_EFFECT_PAUSE_MS);
    await setTimeout(pause, undefined, { signal: cancellationSignal }).catch(() => undefined);
    return true;
  }

  const taskTime = (info.isLocal && task_timeout_ms) || Number.POSITIVE_INFINITY;
  const late = clock.now() - (sent_at ?? clock.now());
  /** Whether the server has given up the workflow task, as this process began it too late for the SDK to complete it in time. */
  const taskHasEnded = () => late > LATE * taskTime && clock.now() - (sent_at ?? 0) > ENDED_AFTER * taskTime;
  if (late > TOO_LATE * taskTime) throw taskEnded();

  const tried = await pRetry(attemptOnce, {
    retries: Number.POSITIVE_INFINITY,
    maxRetryTime: info.isLocal ? Number.POSITIVE_INFINITY : REMOTE_RETRY_TIME_MS,
    minTimeout: 10,
    maxTimeout: 50,
    randomize: true,
    signal: cancellationSignal,
    onFailedAttempt: ({ error, attemptNumber }) =>
      onFailedAttempt(
        { order_id, step: info.activityType, attempt: attemptNumber, error: error.message },
        error instanceof DatabaseError ? error.reason : undefined,
      ),
    shouldRetry: ({ error }) => mayRetry(error),
  }).then(
    (result) => ({ result }),
    (error: Error) => ({ error }),
  );
  // The result would belong to a task that is over; the next one repeats the activity.
  if (taskHasEnded()) throw taskEnded();
  if ('result' in tried) return tried.result;
  throw tried.error instanceof TemporalFailure ? tried.error : failureOf(tried.error, info.attempt);
}

const taskEnded = () => ApplicationFailure.nonRetryable('its workflow task has ended', TASK_ENDED);

/** Whether no retry can succeed until a person changes the schema, a grant, the data or the configuration. */
const isPermanent = (error: Error): boolean => error instanceof DatabaseError && error.permanent;

/**
 * What Temporal records of an error: its message alone. Its causes contain statements with their parameters, and the codec
 * of a namespace doesn't encrypt failures.
 */
function failureOf(error: Error, schedules: number): ApplicationFailure {
  const pause = Math.min(1_000 * 2 ** schedules, MAX_PERMANENT_ERROR_PAUSE_MS);
  return ApplicationFailure.create({
    message: error.message,
    type: error.name,
    ...(isPermanent(error) ? { nextRetryDelay: pause } : {}),
  });
}
