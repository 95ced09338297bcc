import {
  type Client,
  type WorkflowExecutionDescription,
  type WorkflowExecutionInfo,
  WorkflowNotFoundError,
} from '@temporalio/client';
import {
  orderOfWorkflow,
  orderWorkflowId,
  type Run,
  settleWorkflowId,
  shippingWorkflowId,
} from '@trellis/contracts/temporal';
import pTimeout from 'p-timeout';

const CALL_TIMEOUT_MS = 5_000;
/** How many workflow ids one list names. */
const LISTED_AT_ONCE = 50;
/** A gRPC code. */
const NOT_FOUND = 5;

export type Runs = ReturnType<typeof createRuns>;

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

  /** The runs under these ids, and the order's shipping attempts that `parent` has started. The list lags, but not for the latest run of an id. */
  async function runsUnder(ids: string[], orderId: string, parent: string): Promise<WorkflowExecutionDescription[]> {
    const query = `WorkflowId IN (${ids.map(quoted).join(', ')}) OR ParentWorkflowId = ${quoted(parent)}`;
    const ofOrder: WorkflowExecutionInfo[] = [];
    await call(async () => {
      for await (const run of client.workflow.list({ query }))
        if (ids.includes(run.workflowId) || orderOfWorkflow(run.workflowId) === orderId) ofOrder.push(run);
    });
    const found = await Promise.all([
      ...ids.map((id) => describe(id)),
      ...ofOrder.map(({ workflowId, runId }) => describe(workflowId, runId)),
    ]);
    const there = found.filter((run) => run !== undefined);
    return [...new Map(there.map((run) => [run.runId, run])).values()];
  }

  const deleteHistory = ({ workflowId, runId }: WorkflowExecutionDescription) =>
    call(() =>
      client.workflowService.deleteWorkflowExecution({
        namespace: client.options.namespace,
        workflowExecution: { workflowId, runId },
      }),
    ).catch((error) => {
      // Deleted meanwhile.
      if (error.code !== NOT_FOUND) throw error;
    });

  return {
    call,
    runOf,
    isRunning,

    /** Ends the run, or the one that continues it. */
    terminate: async (run: Run, reason: string): Promise<void> => {
      const latest = await runOf(run);
      if (latest) await call(() => client.workflow.getHandle(latest.workflowId, latest.runId).terminate(reason));
    },

    /**
     * Has Temporal delete all that it has of an order whose run has ended: its runs, its shipping attempts, those that were recorded and any
     * other, and its settlings. Temporal keeps the request, and carries it out within minutes. A run under the order's id that still goes on
     * is another's, and stays.
     */
    async deleteHistories(orderId: string, { workflow_id }: Run, recordedAttempts: number): Promise<void> {
      const ofRuns = [workflow_id, orderWorkflowId(orderId)];
      const attempts = Array.from({ length: recordedAttempts + 1 }, (_, n) => shippingWorkflowId(orderId, n + 1));
      const ids = [...new Set([...ofRuns, settleWorkflowId(orderId), ...attempts])];
      for (let from = 0; from < ids.length; from += LISTED_AT_ONCE) {
        const there = await runsUnder(ids.slice(from, from + LISTED_AT_ONCE), orderId, workflow_id);
        await Promise.all(
          there.filter((run) => !(ofRuns.includes(run.workflowId) && isRunning(run))).map(deleteHistory),
        );
      }
    },

    /** Whether the run, or one that continues it, is running. */
    async goesOn(run: Run): Promise<boolean> {
      const latest = await runOf(run);
      return latest !== undefined && isRunning(latest);
    },
  };
}

/** A text in a query of Temporal's list. Any caller of Temporal may choose a workflow's id. */
const quoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;
