/** Keeps a flood of signals from taking longer than a workflow task may, and delivers commands in the order in which they came. */
import type { ActivateInput, WorkflowInterceptorsFactory } from '@temporalio/workflow';
import { bounded } from './bounds.ts';

/**
 * Signals of one name that reach the workflow's handler in one run. Further ones would be refused or change nothing,
 * since COMMAND_LIMITS are far below; but handling a signal costs about 0.4 ms of CPU, and thousands may arrive before a task.
 */
const MAX_SIGNALS_OF_A_NAME = 250;

/**
 * The SDK calls it for each run. A dropped signal stays in the history but never reaches the workflow's handler. `activate` drops
 * most of them: dropping all in `handleSignal` would be enough, but costs three times as much.
 */
export const interceptors: WorkflowInterceptorsFactory = () => {
  const counts = new Map<string, number>();
  return {
    internals: [
      {
        activate(input, next) {
          const { activation } = input;
          const all = activation.jobs ?? [];
          const few = withoutFlood(all);
          const jobs = few.length < all.length && bounded() ? few : all;
          const deliver = (some: typeof jobs) => next({ ...input, activation: { ...activation, jobs: some } });
          const [first, ...rest] = jobs;
          // The SDK would deliver what came before the workflow's start by name, in the order in which the handlers are registered. But a
          // worker whose first task timed out has delivered it in the order in which it came, and its history must replay elsewhere.
          if (first?.initializeWorkflow) deliver([first]);
          deliver(first?.initializeWorkflow ? rest : jobs);
        },
      },
    ],
    inbound: [
      {
        async handleSignal(input, next) {
          if (count(counts, input.signalName) > MAX_SIGNALS_OF_A_NAME && bounded()) return;
          await next(input);
        },
      },
    ],
  };
};

function withoutFlood(jobs: NonNullable<ActivateInput['activation']['jobs']>) {
  const counts = new Map<string, number>();
  return jobs.filter(
    ({ signalWorkflow: signal }) => !signal || count(counts, signal.signalName ?? '') <= MAX_SIGNALS_OF_A_NAME,
  );
}

/** Counts `name` once more; returns its count. */
function count(counts: Map<string, number>, name: string): number {
  const counted = (counts.get(name) ?? 0) + 1;
  counts.set(name, counted);
  return counted;
}
