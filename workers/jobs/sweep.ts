import { setTimeout } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { WorkflowStatus } from '@trellis/contracts/order-status';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import {
  ORDER_WORKFLOW,
  ORDERS_QUEUE,
  orderIdOf,
  SETTLE_WORKFLOW,
  type SettleInput,
  STATUS_QUERY,
  settleWorkflowId,
} from '@trellis/contracts/temporal';
import type { OrderViews } from '@trellis/drizzle/order-views';
import type { Logger } from 'pino';

const SWEEP_INTERVAL_MS = 10_000;
const QUERY_TIMEOUT_MS = 5_000;
/** A run that has answered no query this long after it ended is settled without its answer. */
const UNANSWERED_LIMIT_MS = 60_000;
const ENDED_FROM_OUTSIDE = `WorkflowType = '${ORDER_WORKFLOW}' AND ExecutionStatus IN ('Terminated', 'TimedOut', 'Failed')`;

interface SweepDeps {
  client: Client;
  views: OrderViews;
  log: Logger;
  /** Stops the sweep when it aborts. */
  signal: AbortSignal;
}

/**
 * Every ten seconds looks for runs that were ended from outside and starts a SettleWorkflow for the order of each. Any number
 * of workers may sweep at once: the SettleWorkflow's id is derived from the order's.
 */
export async function sweep(deps: SweepDeps): Promise<void> {
  const { log, signal } = deps;
  // Temporal lists a run until its retention ends; a run whose order has ended is examined once.
  let settled: ReadonlySet<string> = new Set();
  while (!signal.aborted) {
    try {
      settled = await sweepOnce(deps, settled);
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error }, 'sweep failed');
    }
    await setTimeout(SWEEP_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** Returns the ids of the listed runs that need not be examined again. */
async function sweepOnce(
  { client, views, log, signal }: SweepDeps,
  settled: ReadonlySet<string>,
): Promise<Set<string>> {
  const seen = new Set<string>();
  for await (const { workflowId, runId } of client.workflow.list({ query: ENDED_FROM_OUTSIDE })) {
    if (signal.aborted) break;
    const orderId = settled.has(runId) ? undefined : orderIdOf(workflowId);
    const row = orderId === undefined ? undefined : await views.find(orderId);
    // Without a row there is nothing to settle yet; a frozen worker may still write one, so examine the run again.
    if (orderId !== undefined && !row) continue;
    if (!row || row.run_id !== runId || isTerminal(row.state)) {
      seen.add(runId);
      continue;
    }
    // After a reset the order continues in a newer run.
    const { status, runId: latestRunId, closeTime, raw } = await client.workflow.getHandle(workflowId).describe();
    if (status.name === 'RUNNING') continue;
    // An accepted cancel is recorded only in the run's history; a run can be queried after it has ended.
    const isReset = raw.workflowExecutionInfo?.firstRunId === row.run_id;
    const run = client.workflow.getHandle(workflowId, isReset ? latestRunId : runId);
    const lastStatus = await client
      .withDeadline(Date.now() + QUERY_TIMEOUT_MS, () => run.query<WorkflowStatus>(STATUS_QUERY))
      .catch(() => undefined);
    if (!lastStatus && Date.now() - (closeTime?.getTime() ?? 0) < UNANSWERED_LIMIT_MS) continue;
    const cancel_reason = lastStatus?.cancel_reason ?? null;
    log.info({ order_id: row.order_id }, 'settling an order whose run was ended from outside');
    await client.workflow.start(SETTLE_WORKFLOW, {
      workflowId: settleWorkflowId(row.order_id),
      taskQueue: ORDERS_QUEUE,
      args: [{ order_id: row.order_id, cancel_reason } satisfies SettleInput],
      workflowIdConflictPolicy: 'USE_EXISTING',
    });
  }
  return seen;
}
