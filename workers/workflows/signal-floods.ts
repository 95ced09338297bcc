/** Keeps a flood of signals from taking longer than a workflow task may. */
import type { ActivateInput, WorkflowInterceptorsFactory } from '@temporalio/workflow';

/**
 * Signals of one name that a workflow gets in one task. Further ones would be refused or change nothing, since COMMAND_LIMITS are far
 * below; but handling a signal costs about 0.4 ms of CPU, and thousands may arrive before a task.
 */
const MAX_SIGNALS_OF_A_NAME = 250;

/** The SDK calls it for each workflow. A signal dropped here never reaches the workflow's handler; it stays in the history. */
export const interceptors: WorkflowInterceptorsFactory = () => ({
  internals: [
    {
      activate(input, next) {
        const { activation } = input;
        const { jobs } = activation;
        if (jobs && jobs.length > MAX_SIGNALS_OF_A_NAME) activation.jobs = withoutFlood(jobs);
        next(input);
      },
    },
  ],
});

function withoutFlood(jobs: NonNullable<ActivateInput['activation']['jobs']>) {
  const counts = new Map<string, number>();
  return jobs.filter(({ signalWorkflow: signal }) => {
    if (!signal) return true;
    const count = (counts.get(signal.signalName ?? '') ?? 0) + 1;
    counts.set(signal.signalName ?? '', count);
    return count <= MAX_SIGNALS_OF_A_NAME;
  });
}
