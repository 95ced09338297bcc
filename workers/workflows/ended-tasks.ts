/** Has a run replayed whose workflow task the server ended during a local activity. */
import { type ActivateInput, type WorkflowInterceptorsFactory, workflowInfo } from '@temporalio/workflow';
import { localActivities } from './run-activity.ts';

type Activation = ActivateInput['activation'];
type Job = NonNullable<Activation['jobs']>[number];

/** The worker itself lets go of a task, for another one, when 80 % of its timeout have passed. */
const LEAST_HELD = 0.75;

/**
 * The SDK calls it for each run. Signals wait while a workflow task is open, but the server ends the task when more than a hundred wait, or
 * more than 2 MB. The SDK then goes on with the next task as if the ended one had been completed: a replay, which knows nothing of the ended
 * one, gets the signals first, and a third task, whose events have the numbers of the second's, brings none of its own. A failed task
 * has the SDK forget the run, and begin it anew from its history.
 */
export const interceptors: WorkflowInterceptorsFactory = () => {
  /** `startedAt`: epoch milliseconds; undefined when its first activation came later, or is a replay, whose times are not those of each task. */
  let task: { length: unknown; startedAt: number | undefined } | undefined;
  return {
    internals: [
      {
        activate(input, next) {
          const { historyLength: length, isReplaying, timestamp, jobs } = input.activation;
          const brings = (jobs ?? []).some(isNews);
          if (length !== task?.length) {
            const before = task;
            task = { length, startedAt: brings && !isReplaying ? millisecondsOf(timestamp) : undefined };
            if (brings && localActivities() > 0 && wasEnded(before?.startedAt, task.startedAt)) throw new TaskEnded();
          }
          return next(input);
        },
      },
    ],
  };
};

/** Shown in the history as the cause of the failed task. */
class TaskEnded extends Error {
  override readonly name = 'TaskEnded';
  override readonly message = 'the server ended a workflow task during a local activity';
}

const wasEnded = (before: number | undefined, now: number | undefined): boolean =>
  before !== undefined && now !== undefined && now - before < LEAST_HELD * workflowInfo().taskTimeoutMs;

const isNews = (job: Job): boolean => !job.resolveActivity?.isLocal && !job.queryWorkflow && !job.removeFromCache;

const millisecondsOf = (timestamp: Activation['timestamp']): number =>
  Number(timestamp?.seconds ?? 0) * 1_000 + Number(timestamp?.nanos ?? 0) / 1e6;
