import type { Client, WorkflowExecutionDescription } from '@temporalio/client';
import type { WorkflowStatus } from '@trellis/contracts/order-status';
import {
  ORDERS_QUEUE,
  type Run,
  SETTLE_WORKFLOW,
  type SettleInput,
  STATUS_QUERY,
  settleWorkflowId,
} from '@trellis/contracts/temporal';
import type { Logger } from 'pino';
import { createRuns } from './runs.ts';

/** A run that has ended and that has answered no query for this long is settled without its answer. */
const UNANSWERED_LIMIT_MS = 60_000;
/** A workflow task at this attempt or a later one counts as stuck. */
const WEDGED_AFTER_ATTEMPTS = 5;

/** An order whose row is open: bound to its first run, which later runs of the same workflow id may continue. */
export interface OpenRow extends Run {
  order_id: string;
}

/** `unknown`: Temporal has no such run, and the order's time is not over. `left`: the run is running, or has not yet answered whether it accepted a cancel. */
export type Verdict = 'settling' | 'unknown' | 'left';

export type SettleIfAbandoned = (row: OpenRow, isOverdue: boolean) => Promise<Verdict>;

/**
 * Returns the function that starts a SettleWorkflow for an open order if no run is going to end it. `isOverdue`: the order is
 * past everything that its policy allows. Only then is an order settled whose run Temporal doesn't know, as its own run would
 * have ended it by then too: so a worker that was given the wrong namespace refunds nothing that is still under way. And only
 * then is a run terminated whose workflow tasks fail over and over.
 */
export function createSettler(client: Client, log: Logger): SettleIfAbandoned {
  /** When a run first left a query unanswered, on this process's monotonic clock. */
  const unansweredSince = new Map<string, number>();

  const { call, runOf, isRunning } = createRuns(client);

  /** The reason of the cancel that a run has accepted, if any: it may be recorded nowhere but in the run. */
  async function cancelReasonOf({ workflowId, runId }: WorkflowExecutionDescription): Promise<string | null> {
    const run = client.workflow.getHandle(workflowId, runId);
    return (await call(() => run.query<WorkflowStatus>(STATUS_QUERY))).cancel_reason;
  }

  /** As above for an ended run, which a worker must replay to answer. Until it answers: undefined, and null after UNANSWERED_LIMIT_MS. */
  async function cancelReasonOfEnded(run: WorkflowExecutionDescription): Promise<string | null | undefined> {
    try {
      return await cancelReasonOf(run);
    } catch {
      const now = performance.now();
      for (const [id, since] of unansweredSince) if (now - since > 60 * UNANSWERED_LIMIT_MS) unansweredSince.delete(id);
      const since = unansweredSince.get(run.runId) ?? now;
      unansweredSince.set(run.runId, since);
      return now - since < UNANSWERED_LIMIT_MS ? undefined : null;
    }
  }

  async function settle({ order_id }: OpenRow, cancel_reason: string | null, why: string): Promise<Verdict> {
    log.info({ order_id }, `settling an order ${why}`);
    await call(() =>
      client.workflow.start(SETTLE_WORKFLOW, {
        workflowId: settleWorkflowId(order_id),
        taskQueue: ORDERS_QUEUE,
        args: [{ order_id, cancel_reason } satisfies SettleInput],
        workflowIdConflictPolicy: 'USE_EXISTING',
      }),
    );
    return 'settling';
  }

  /** A run whose workflow tasks fail or time out over and over neither decides commands nor notices its deadline. */
  async function settleIfWedged(row: OpenRow, run: WorkflowExecutionDescription, isOverdue: boolean): Promise<Verdict> {
    const { order_id } = row;
    const { workflowId: workflow_id, runId: run_id } = run;
    const attempts = run.raw.pendingWorkflowTask?.attempt ?? 0;
    if (attempts < WEDGED_AFTER_ATTEMPTS) return 'left';
    log.warn(
      { order_id, workflow_id, run_id, attempts, terminated: isOverdue },
      'the workflow task of an order fails or times out again and again',
    );
    if (!isOverdue) return 'left';
    const reason = await cancelReasonOf(run).catch(() => null);
    await call(() => client.workflow.getHandle(workflow_id, run_id).terminate('its workflow task keeps failing'));
    return settle(row, reason, 'whose run made no progress');
  }

  return async function settleIfAbandoned(row, isOverdue) {
    const run = await runOf(row);
    if (!run) return isOverdue ? settle(row, null, 'whose run Temporal does not know') : 'unknown';
    if (isRunning(run)) return settleIfWedged(row, run, isOverdue);
    const reason = await cancelReasonOfEnded(run);
    return reason === undefined ? 'left' : settle(row, reason, 'whose run was ended from outside');
  };
}
