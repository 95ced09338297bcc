import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import type { AttemptRecord } from '@trellis/drizzle/attempts';
import pRetry, { AbortError } from 'p-retry';
import pTimeout from 'p-timeout';

/** What every step needs to run its attempts. */
export interface AttemptDeps {
  /** The fault that each try meets first; absent in production. */
  flakyCall?: () => Promise<void>;
  onFailedAttempt(record: AttemptRecord): void;
}

/** An order's work; `deadline_at` in epoch milliseconds, absent for what must be finished however long it takes. */
export interface ActivityInput {
  order_id: string;
  deadline_at?: number;
}

/** A call that hangs is given up after this: the exercise's fault sleeps for minutes, and every step has seconds. */
const FLAKY_WITHIN_MS = 50;
/** Databases and companies are slower, and being impatient with them costs more. */
const EFFECT_WITHIN_MS = 2_000;
/** A remote attempt ends after about this and is scheduled anew, so that a moved or stopped worker doesn't hold the order. */
const REMOTE_ATTEMPT_MS = 3_500;
/** A local attempt that meets this many failures of the effect itself leaves the work to a remote one, whose retries cost no history. */
const LOCAL_EFFECT_FAILURES = 3;

/**
 * Runs a step's effect until it succeeds: this is the inner, quick layer of retries; Temporal's own is the outer one.
 * `effect` must be repeatable, also beside a forgotten earlier try of itself.
 * Fails with the application failure `DEADLINE` once the deadline has passed, else with the last error.
 */
export async function attempt<T>(
  { flakyCall, onFailedAttempt }: AttemptDeps,
  { order_id, deadline_at }: ActivityInput,
  effect: () => Promise<T>,
): Promise<T> {
  const { info, cancellationSignal } = Context.current();
  let effectFailures = 0;

  async function tryOnce(): Promise<T> {
    if (deadline_at !== undefined && Date.now() > deadline_at)
      throw new AbortError(ApplicationFailure.nonRetryable(`${info.activityType}: out of time`, 'DEADLINE'));
    if (flakyCall)
      await pTimeout(flakyCall(), { milliseconds: FLAKY_WITHIN_MS, message: `hung for ${FLAKY_WITHIN_MS} ms` });
    try {
      return await pTimeout(effect(), { milliseconds: EFFECT_WITHIN_MS });
    } catch (error) {
      effectFailures += 1;
      throw error;
    }
  }

  return pRetry(tryOnce, {
    retries: Number.POSITIVE_INFINITY,
    maxRetryTime: info.isLocal ? Number.POSITIVE_INFINITY : REMOTE_ATTEMPT_MS,
    minTimeout: 10,
    maxTimeout: 50,
    randomize: true,
    signal: cancellationSignal,
    onFailedAttempt: ({ error, attemptNumber }) =>
      onFailedAttempt({ order_id, step: info.activityType, attempt: attemptNumber, error: error.message }),
    shouldRetry: () => !(info.isLocal && effectFailures >= LOCAL_EFFECT_FAILURES),
  });
}
