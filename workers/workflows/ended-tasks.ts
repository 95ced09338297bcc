/** Fails the workflow task that follows one which the server ended during a local activity, so that the worker replays the run. */
import { type ActivateInput, type WorkflowInterceptorsFactory, workflowInfo } from '@temporalio/workflow';
import { TASK_ENDED } from '@trellis/contracts/activities';
import { localActivities } from './run-activity.ts';

type Activation = ActivateInput['activation'];
type Job = NonNullable<Activation['jobs']>[number];

/** Less than the share of a task's timeout after which the SDK itself completes a task during a local activity, and gets a new one: 80 %. */
const MIN_SHARE_OF_TIMEOUT = 0.75;

/**
 * The SDK calls it for each run. Signals wait while a workflow task is open, but the server ends the task when more than a hundred wait, or
 * more than 2 MB. The SDK then continues the run with the next task as if the ended one had been completed. Two faults follow: a replay
 * delivers the signals before the local activity, not after it; and if the server ends the next task too, its events' numbers are used
 * again for new signals, which the SDK takes for known ones and does not deliver. The same follows when a process that was frozen begins a
 * task so late that the server gives it up: then nothing of the next task may be seen here, and the local activity finds out
 * (attempt.ts). After a failed task the SDK drops the run from its cache, and replays it from its history.
 */
export const interceptors: WorkflowInterceptorsFactory = () => {
  /** `startedAt`: epoch milliseconds; undefined when its first activation came later, or is a replay, whose times are not those of each task. */
  let task: { length: unknown; startedAt: number | undefined } | undefined;
  return {
    internals: [
      {
        activate(input, next) {
          const { historyLength: length, isReplaying, timestamp, jobs } = input.activation;
          if (!isReplaying && jobs?.some(foundItsTaskEnded)) throw new TaskEnded();
          const hasNewJobs = (jobs ?? []).some(isNew);
          if (length !== task?.length) {
            const before = task;
            task = { length, startedAt: hasNewJobs && !isReplaying ? millisecondsOf(timestamp) : undefined };
            if (hasNewJobs && localActivities() > 0 && wasEnded(before?.startedAt, task.startedAt))
              throw new TaskEnded();
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
  before !== undefined && now !== undefined && now - before < MIN_SHARE_OF_TIMEOUT * workflowInfo().taskTimeoutMs;

const foundItsTaskEnded = ({ resolveActivity: resolved }: Job): boolean =>
  resolved?.isLocal === true && resolved.result?.failed?.failure?.cause?.applicationFailureInfo?.type === TASK_ENDED;

const isNew = (job: Job): boolean => !job.resolveActivity?.isLocal && !job.queryWorkflow && !job.removeFromCache;

const millisecondsOf = (timestamp: Activation['timestamp']): number =>
  Number(timestamp?.seconds ?? 0) * 1_000 + Number(timestamp?.nanos ?? 0) / 1e6;
