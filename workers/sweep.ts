import { setTimeout } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { isClosed } from '@trellis/contracts/lifecycle';
import {
  ORDER_WORKFLOW,
  ORDERS_QUEUE,
  orderIdOf,
  SETTLE_WORKFLOW,
  settleWorkflowId,
} from '@trellis/contracts/temporal';
import type { OrderViews } from '@trellis/drizzle/order-views';
import type { Logger } from 'pino';

const SWEEP_EVERY_MS = 10_000;
const ENDED_FROM_OUTSIDE = `WorkflowType = '${ORDER_WORKFLOW}' AND ExecutionStatus IN ('Terminated', 'TimedOut', 'Failed')`;

/**
 * Looks for runs that were ended from outside and has their orders settled, until the signal aborts. Any number of
 * workers may sweep at once: the settling workflow's id is the order's.
 */
export async function sweep(deps: {
  client: Client;
  views: OrderViews;
  log: Logger;
  signal: AbortSignal;
}): Promise<void> {
  const { client, views, log, signal } = deps;
  const done = new Set<string>();
  while (!signal.aborted) {
    try {
      for await (const { workflowId, runId } of client.workflow.list({ query: ENDED_FROM_OUTSIDE })) {
        const orderId = orderIdOf(workflowId);
        if (signal.aborted || done.has(runId) || orderId === undefined) continue;
        const row = await views.find(orderId);
        if (row && row.runId === runId && !isClosed(row.state)) await settle(orderId);
        else done.add(runId);
      }
    } catch (error) {
      log.warn({ err: error }, 'sweep failed');
    }
    await setTimeout(SWEEP_EVERY_MS, undefined, { signal }).catch(() => undefined);
  }

  async function settle(orderId: string): Promise<void> {
    log.info({ order_id: orderId }, 'settling an order whose run was ended from outside');
    await client.workflow.start(SETTLE_WORKFLOW, {
      workflowId: settleWorkflowId(orderId),
      taskQueue: ORDERS_QUEUE,
      args: [{ order_id: orderId }],
      workflowIdConflictPolicy: 'USE_EXISTING',
    });
  }
}
