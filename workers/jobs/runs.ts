import { type Client, type WorkflowExecutionDescription, WorkflowNotFoundError } from '@temporalio/client';
import type { Run } from '@trellis/contracts/temporal';
import pTimeout from 'p-timeout';

const CALL_TIMEOUT_MS = 5_000;

/** Calls Temporal about the runs of orders. Each call is bounded in time. */
export function createRuns(client: Client) {
  const call = <T>(work: () => Promise<T>): Promise<T> =>
    pTimeout(
      client.withDeadline(Date.now() + CALL_TIMEOUT_MS, work),
      // The client's own deadline doesn't interrupt the pause between two of its retries.
      { milliseconds: 2 * CALL_TIMEOUT_MS },
    );

  const describe = (workflowId: string, runId?: string) =>
    call(() => client.workflow.getHandle(workflowId, runId).describe()).catch((error) => {
      if (error instanceof WorkflowNotFoundError) return undefined;
      throw error;
    });

  /** The latest of the runs that began with this one; undefined when Temporal knows none. */
  async function runOf({ workflow_id, run_id }: Run): Promise<WorkflowExecutionDescription | undefined> {
    const latest = await describe(workflow_id);
    // A reset, and a continuation as new, go on in a run of their own.
    return latest?.raw.workflowExecutionInfo?.firstRunId === run_id ? latest : describe(workflow_id, run_id);
  }

  const isRunning = ({ status }: WorkflowExecutionDescription): boolean =>
    status.name === 'RUNNING' || status.name === 'PAUSED';

  return {
    call,
    runOf,
    isRunning,
    /** Whether the run, or one that continues it, is running. */
    async goesOn(run: Run): Promise<boolean> {
      const latest = await runOf(run);
      return latest !== undefined && isRunning(latest);
    },
  };
}
