import { setTimeout } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { isTerminal } from '@trellis/contracts/lifecycle';
import type { WorkflowStatus } from '@trellis/contracts/status';
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

const SWEEP_EVERY_MS = 10_000;
const ASKED_WITHIN_MS = 5_000;
/** A run that gives no answer for so long is settled without one. */
const ASKED_FOR_MS = 60_000;
const ENDED_FROM_OUTSIDE = `WorkflowType = '${ORDER_WORKFLOW}' AND ExecutionStatus IN ('Terminated', 'TimedOut', 'Failed')`;

interface SweepDeps {
  client: Client;
  views: OrderViews;
  log: Logger;
  /** Ends the sweeping. */
  signal: AbortSignal;
}

/**
 * Looks every ten seconds for runs that were ended from outside and has their orders settled. Any number of workers
 * may sweep at once: the settling workflow's id is the order's.
 */
export async function sweep(sweeping: SweepDeps): Promise<void> {
  const { log, signal } = sweeping;
  // Temporal lists a run until its retention ends; one whose order has closed is looked at once.
  let settled: ReadonlySet<string> = new Set();
  while (!signal.aborted) {
    try {
      settled = await sweepOnce(sweeping, settled);
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error }, 'sweep failed');
    }
    await setTimeout(SWEEP_EVERY_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** Answers the listed runs that need no second look. */
async function sweepOnce(
  { client, views, log, signal }: SweepDeps,
  settled: ReadonlySet<string>,
): Promise<Set<string>> {
  const seen = new Set<string>();
  for await (const { workflowId, runId } of client.workflow.list({ query: ENDED_FROM_OUTSIDE })) {
    if (signal.aborted) break;
    const orderId = settled.has(runId) ? undefined : orderIdOf(workflowId);
    const row = orderId === undefined ? undefined : await views.find(orderId);
    // Without a row there is nothing to settle yet: a frozen worker may still make one.
    if (orderId !== undefined && !row) continue;
    if (!row || row.run_id !== runId || isTerminal(row.state)) {
      seen.add(runId);
      continue;
    }
    // A reset goes on with the same order, in a run that is alive.
    const { status, runId: latestRunId, closeTime, raw } = await client.workflow.getHandle(workflowId).describe();
    if (status.name === 'RUNNING') continue;
    // A cancel that the run had accepted is known to the run alone, which answers though it is over.
    const isReset = raw.workflowExecutionInfo?.firstRunId === row.run_id;
    const run = client.workflow.getHandle(workflowId, isReset ? latestRunId : runId);
    const told = await client
      .withDeadline(Date.now() + ASKED_WITHIN_MS, () => run.query<WorkflowStatus>(STATUS_QUERY))
      .catch(() => undefined);
    if (!told && Date.now() - (closeTime?.getTime() ?? 0) < ASKED_FOR_MS) continue;
    const cancel_reason = told?.cancel_reason ?? null;
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
