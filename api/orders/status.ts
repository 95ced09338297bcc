import { ACTIVITIES } from '@trellis/contracts/activities';
import type { OrderStatus, WorkflowStatus } from '@trellis/contracts/order-status';
import { isTerminal, STEPS, type Step } from '@trellis/contracts/states-and-steps';
import { DatabaseError } from '@trellis/drizzle/database';
import type { OrderViews, RecentAttempts } from '@trellis/drizzle/order-views';
import { after } from '../after.ts';
import type { TemporalPort } from '../temporal/port.ts';
import { databaseErrorAsValue, databaseFailed, noSuchOrder } from './errors.ts';
import { createExpiringMap } from './expiring-map.ts';

const QUERY_TIMEOUT_MS = 300;
/** SQL lags behind a decided command: for 5 s after it, readers wait up to 2 s for the workflow before they use SQL. */
const PREFERRED_QUERY_TIMEOUT_MS = 2_000;
const PREFER_WORKFLOW_FOR_MS = 5_000;
/** How long readers of one order share a query's answer: Temporal Cloud bills each query. */
const SHARE_QUERY_FOR_MS = 250;
const MAX_RECENT_ERRORS = 5;
/**
 * An ended order never changes, so its status is kept. Not for long: workers may record a failed attempt a moment after the end, and what
 * is erased in SQL must be gone soon.
 */
const KEEP_ENDED_FOR_MS = 5_000;
const MAX_KEPT = 1_000;

export interface StatusReader {
  /** Throws NOT_FOUND for an order that neither SQL nor Temporal has, UNAVAILABLE when neither answers, INTERNAL when SQL refuses. */
  read(orderId: string): Promise<OrderStatus>;
  /** Discards what is kept of an order, so that the next status shows a command or an erasure before it. */
  forget(orderId: string): void;
  /** Called once a command is decided: for a while the status waits longer for the workflow, as SQL lags behind. */
  preferWorkflow(orderId: string): void;
}

/** Reads an ended order's status from SQL; any other's from the workflow, else SQL, else Temporal's record that the order was started. */
export function createStatusReader({ temporal, views }: { temporal: TemporalPort; views: OrderViews }): StatusReader {
  const ended = createExpiringMap<OrderStatus>(KEEP_ENDED_FOR_MS, MAX_KEPT);
  const queries = createExpiringMap<Promise<WorkflowStatus | undefined>>(SHARE_QUERY_FOR_MS);
  const preferred = createExpiringMap<true>(PREFER_WORKFLOW_FOR_MS);

  function query(orderId: string): Promise<WorkflowStatus | undefined> {
    const timeoutMs = preferred.get(orderId) ? PREFERRED_QUERY_TIMEOUT_MS : QUERY_TIMEOUT_MS;
    let answer = queries.get(orderId);
    if (!answer) {
      answer = temporal.query(orderId, timeoutMs);
      queries.set(orderId, answer);
    }
    // On an edge runtime the request that sent the query may have been canceled, and then its answer never arrives.
    return Promise.race([answer, after(timeoutMs)]);
  }

  return {
    async read(orderId) {
      const kept = ended.get(orderId);
      if (kept) return kept;
      const read = await views.status(orderId, MAX_RECENT_ERRORS).catch(databaseErrorAsValue);
      const down = read instanceof DatabaseError ? read : undefined;
      const { recorded, recent } = read instanceof DatabaseError ? NOTHING_READ : read;
      const fromRow = recorded && assemble(recorded.status, 'sql', recent, recorded.updated_at);
      if (fromRow && isTerminal(fromRow.state)) {
        ended.set(orderId, fromRow);
        return fromRow;
      }
      const answered = await query(orderId);
      if (answered) return assemble(answered, 'workflow', recent);
      if (fromRow) return fromRow;
      if (!down && (await temporal.find(orderId))?.dead === false)
        return assemble({ ...STARTED, order_id: orderId }, 'temporal', recent);
      if (down) throw databaseFailed(down);
      throw noSuchOrder(orderId);
    },
    forget(orderId) {
      queries.delete(orderId);
      ended.delete(orderId);
    },
    preferWorkflow(orderId) {
      preferred.set(orderId, true);
    },
  };
}

const NOTHING_READ = { recorded: null, recent: { errors: [], failures: 0 } };

/** The status of an order that Temporal has accepted and no worker has recorded. */
const STARTED: Omit<WorkflowStatus, 'order_id'> = {
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

/** The step that each activity performs; null for one that can run at any step. */
const STEP_OF_ACTIVITY = new Map<string, Step | null>(
  Object.entries(ACTIVITIES).map(([activity, { step }]) => [activity, step]),
);

function assemble(
  status: WorkflowStatus,
  source: OrderStatus['source'],
  { errors, failures }: RecentAttempts,
  asOf: string = new Date().toISOString(),
): OrderStatus {
  const last = errors[0]?.step;
  const lastStep = (last && STEP_OF_ACTIVITY.get(last)) || status.step;
  // While the workflow does not answer, the failed attempts show a step that SQL has not recorded yet.
  const step =
    source !== 'workflow' && !isTerminal(status.state) && isBeyond(lastStep, status.step) ? lastStep : status.step;
  const current = !isTerminal(status.state) && lastStep === step ? last : undefined;
  return {
    ...status,
    step,
    last_error: status.last_error ?? (current ? (errors[0]?.error ?? null) : null),
    source,
    as_of: asOf,
    activity: current ?? null,
    attempt: current ? failures + 1 : 1,
    retries: current ? failures : 0,
    recent_errors: errors,
  };
}

const isBeyond = (one: Step, other: Step): boolean => STEPS.indexOf(one) > STEPS.indexOf(other);
