import { ACTIVITIES } from '@trellis/contracts/activity';
import { OrderError } from '@trellis/contracts/error';
import { isTerminal, STEPS, type Step } from '@trellis/contracts/lifecycle';
import type { OrderStatus, WorkflowStatus } from '@trellis/contracts/status';
import type { AttemptStore, RecentAttempts } from '@trellis/drizzle/attempts';
import type { OrderRow } from '@trellis/drizzle/lock-order';
import type { OrderViews } from '@trellis/drizzle/order-views';
import type { TemporalPort } from '../temporal/port.ts';
import { dropExpired } from './expiring-map.ts';

const QUERY_WITHIN_MS = 300;
/** SQL knows of a decided command only once the order has acted on it, so until then a reader waits longer for the workflow. */
const NEWS_WITHIN_MS = 2_000;
const NEWS_FOR_MS = 5_000;
/** Many readers of one order share a query's answer for this long: each query costs Temporal an Action. */
const SHARE_QUERY_MS = 250;
const RECENT_ERRORS = 5;

export interface StatusReader {
  /** Throws NOT_FOUND for an order nobody knows, UNAVAILABLE when neither SQL nor Temporal answers. */
  read(orderId: string): Promise<OrderStatus>;
  /** After a command the next status must show it, so it may not come from an older query. */
  forget(orderId: string): void;
  /** A command was decided: whoever asks now is told by the workflow, unless that stays silent for long. */
  preferWorkflow(orderId: string): void;
}

export function createStatusReader(deps: {
  temporal: TemporalPort;
  views: OrderViews;
  attempts: AttemptStore;
}): StatusReader {
  const { temporal, views, attempts } = deps;
  const queries = new Map<string, { at: number; answer: Promise<WorkflowStatus | undefined> }>();
  const news = new Map<string, { at: number }>();

  function query(orderId: string): Promise<WorkflowStatus | undefined> {
    dropExpired(queries, SHARE_QUERY_MS);
    dropExpired(news, NEWS_FOR_MS);
    const within = news.has(orderId) ? NEWS_WITHIN_MS : QUERY_WITHIN_MS;
    const answer = queries.get(orderId)?.answer ?? temporal.query(orderId, within);
    if (!queries.has(orderId)) queries.set(orderId, { at: Date.now(), answer });
    // On an edge runtime the request that asked may have been dropped, and its answer with it.
    return Promise.race([answer, after(within)]);
  }

  return {
    async read(orderId) {
      const [row, tried] = await Promise.all([
        views.find(orderId).catch(() => 'down' as const),
        attempts.recent(orderId, RECENT_ERRORS).catch(() => NO_ATTEMPTS),
      ]);
      const recorded = row === 'down' ? undefined : row;
      if (recorded && isTerminal(recorded.state))
        return assemble(statusOfRow(recorded), 'sql', tried, recorded.updatedAt);
      const live = await query(orderId);
      if (live) return assemble(live, 'workflow', tried);
      if (recorded) return assemble(statusOfRow(recorded), 'sql', tried, recorded.updatedAt);
      if (row !== 'down' && (await temporal.find(orderId)))
        return assemble({ ...NOTHING_YET, order_id: orderId }, 'temporal', tried);
      if (row === 'down') throw new OrderError('UNAVAILABLE', 'the database does not answer');
      throw new OrderError('NOT_FOUND', `there is no order ${orderId}`);
    },
    forget(orderId) {
      queries.delete(orderId);
    },
    preferWorkflow(orderId) {
      dropExpired(news, NEWS_FOR_MS);
      news.delete(orderId);
      news.set(orderId, { at: Date.now() });
    },
  };
}

const after = (ms: number) => new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), ms));

const NO_ATTEMPTS: RecentAttempts = { errors: [], failures: 0 };

const NOTHING_YET: Omit<WorkflowStatus, 'order_id'> = {
  state: 'received',
  step: 'init',
  approved: false,
  canceled: false,
  cancel_reason: null,
  child_attempts: 0,
  last_error: null,
  dispatch_failed_reason: null,
  reason: null,
};

function statusOfRow(row: OrderRow): WorkflowStatus {
  return {
    order_id: row.id,
    state: row.state,
    step: row.step,
    approved: row.approved,
    canceled: row.state === 'canceled',
    cancel_reason: row.cancelReason,
    child_attempts: row.childAttempts,
    last_error: row.lastError,
    dispatch_failed_reason: row.dispatchFailedReason,
    reason: row.reason,
  };
}

/** The step that each activity performs; null for one that can run at any step. */
const STEP_OF_ACTIVITY = new Map<string, Step | null>(
  Object.entries(ACTIVITIES).map(([activity, { step }]) => [activity, step]),
);

function assemble(
  status: WorkflowStatus,
  source: OrderStatus['source'],
  { errors, failures }: RecentAttempts,
  asOf: Date = new Date(),
): OrderStatus {
  const last = errors[0]?.step;
  const lastStep = (last && STEP_OF_ACTIVITY.get(last)) || status.step;
  // A workflow that is busy with an activity can't be asked; its failed attempts tell how far it has come.
  const step =
    source !== 'workflow' && !isTerminal(status.state) && isBeyond(lastStep, status.step) ? lastStep : status.step;
  const current = !isTerminal(status.state) && lastStep === step ? last : undefined;
  return {
    ...status,
    step,
    last_error: status.last_error ?? (current ? (errors[0]?.error ?? null) : null),
    source,
    as_of: asOf.toISOString(),
    activity: current ?? null,
    attempt: current ? failures + 1 : 1,
    retries: current ? failures : 0,
    recent_errors: errors,
  };
}

const isBeyond = (one: Step, other: Step): boolean => STEPS.indexOf(one) > STEPS.indexOf(other);
