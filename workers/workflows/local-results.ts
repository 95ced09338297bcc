/** Takes in each result of a local activity by itself, after everything else that arrived with it. */
import {
  type ActivateInput,
  CancellationScope,
  condition,
  type WorkflowInterceptorsFactory,
} from '@temporalio/workflow';

type Job = NonNullable<ActivateInput['activation']['jobs']>[number];

/**
 * Rounds of conditions until the workflow is at rest: more than the conditions that a step or a command passes before it waits for
 * something that is still to come.
 */
const ROUNDS = 10;

/**
 * The SDK calls it for each run. A local activity may outlast its workflow task. When it has ended, the next task brings signals and
 * updates: a worker that runs the order gets them first, and the result in an activation of its own. One that replays the history gets
 * both in one activation, in which the code behind the result would go on before the code behind a condition that a signal made true,
 * and schedule its activities in another order than the history has.
 */
export const interceptors: WorkflowInterceptorsFactory = () => ({
  internals: [
    {
      activate(input, next) {
        const { activation } = input;
        const jobs = activation.jobs ?? [];
        const results = jobs.filter(isLocalResult);
        if (results.length === 0 || jobs.length === 1) return next(input);
        const deliver = (some: Job[]) => next({ ...input, activation: { ...activation, jobs: some } });
        deliver(jobs.filter((job) => !isLocalResult(job)));
        // Also while the workflow is canceled, when its own conditions end.
        void CancellationScope.nonCancellable(async () => {
          for (const result of results) {
            await rest();
            deliver([result]);
          }
        });
      },
    },
  ],
});

const isLocalResult = ({ resolveActivity }: Job): boolean => resolveActivity?.isLocal === true;

/** Resolves within the activation. The SDK asks conditions once all that could run has run. */
async function rest(): Promise<void> {
  for (let round = 0; round < ROUNDS; round += 1) {
    let asked = false;
    await condition(() => {
      const isSecond = asked;
      asked = true;
      return isSecond;
    });
  }
}
