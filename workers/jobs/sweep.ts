import { setTimeout } from 'node:timers/promises';
import { type Client, isGrpcServiceError } from '@temporalio/client';
import { RECORDED_ID_PATTERN } from '@trellis/contracts/id';
import { POLICIES, policyOf } from '@trellis/contracts/policy';
import { isTerminal, OPEN_STATES, type OpenState } from '@trellis/contracts/states-and-steps';
import { ORDER_WORKFLOW, orderIdOf, type Run } from '@trellis/contracts/temporal';
import type { OpenOrder, OpenOrders } from '@trellis/drizzle/open-orders';
import type { OrderViews } from '@trellis/drizzle/order-views';
import type { Logger } from 'pino';
import { createSettler, type SettleIfAbandoned } from './settle-if-abandoned.ts';

const SWEEP_INTERVAL_MS = 10_000;
const PASS_TIMEOUT_MS = 60_000;
/** Runs may be listed this much later than others that ended after them. */
const LISTING_LAG_MS = 120_000;
/** A run that could not be settled for this long is left to the pass over the idle orders. */
const EXAMINED_FOR_MS = 600_000;
/** An order's row is looked at once it has not moved for this long beyond what its state allows, and once more after as long. */
const IDLE_MS = 60_000;
const PAGE_SIZE = 500;
/** Servers since 1.30 report a run whose workflow task has failed or timed out five times in a row. */
const FAILING = `WorkflowType = '${ORDER_WORKFLOW}' AND ExecutionStatus = 'Running' AND TemporalReportedProblems IS NOT NULL`;
const ENDED_FROM_OUTSIDE = `WorkflowType = '${ORDER_WORKFLOW}' AND ExecutionStatus IN ('Terminated', 'TimedOut', 'Failed')`;

interface SweepDeps {
  client: Client;
  views: Pick<OrderViews, 'find'>;
  openOrders: OpenOrders;
  log: Logger;
  /** Stops the sweep when it aborts. */
  signal: AbortSignal;
}

/** Examines orders until there are no more, or `mayGoOn` is false: the next call goes on from there. */
type Pass = (mayGoOn: () => boolean) => Promise<void>;

/**
 * Every ten seconds looks for orders that no run is going to end, and starts a SettleWorkflow for each: among the runs that
 * ended from outside, which finds most of them at once, among the open orders that no longer move, and among the runs that
 * make no progress and have no row. Any
 * number of workers may sweep at once: the SettleWorkflow's id is derived from the order's.
 */
export async function sweep(deps: SweepDeps): Promise<void> {
  const { client, log, signal } = deps;
  const settleIfAbandoned = createSettler(client, log);
  const passes = [
    endedRuns(deps, settleIfAbandoned),
    failingRuns(deps, settleIfAbandoned),
    idleOrders(deps, settleIfAbandoned),
  ];
  while (!signal.aborted) {
    for (const pass of passes) {
      const end = performance.now() + PASS_TIMEOUT_MS;
      try {
        await client.withAbortSignal(signal, () =>
          client.withDeadline(Date.now() + PASS_TIMEOUT_MS, () =>
            pass(() => !signal.aborted && performance.now() < end),
          ),
        );
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error }, 'sweep failed');
      }
    }
    await setTimeout(SWEEP_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** The runs that Temporal lists as ended from outside, of orders that are still open. */
function endedRuns({ client, views, log, signal }: SweepDeps, settleIfAbandoned: SettleIfAbandoned): Pass {
  /** Temporal's time; runs that ended before need not be listed again. */
  let since: number | undefined;
  /** The ids of the listed runs that need not be examined again. */
  let done = new Set<string>();
  /** When an unfinished one was first listed, on this process's own clock. */
  const firstListed = new Map<string, number>();

  async function isDone({ workflow_id }: Run): Promise<boolean> {
    const orderId = orderIdOf(workflow_id);
    if (orderId === undefined || !RECORDED_ID_PATTERN.test(orderId)) return true;
    const row = await views.find(orderId);
    if (row && (isTerminal(row.state) || row.workflow_id !== workflow_id)) return true;
    if (row) await settleIfAbandoned(row, false);
    // Without a row there is nothing to settle yet; a frozen worker may still write one.
    return false;
  }

  async function examine(run: Run): Promise<boolean> {
    const first = firstListed.get(run.run_id) ?? performance.now();
    firstListed.set(run.run_id, first);
    try {
      if (await isDone(run)) return true;
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error, ...run }, 'an ended run could not be examined');
    }
    return performance.now() - first > EXAMINED_FOR_MS;
  }

  return async (mayGoOn) => {
    const listed = new Set<string>();
    let newest = since ?? 0;
    let oldestUnfinished = Number.POSITIVE_INFINITY;
    const bound = since === undefined ? '' : ` AND CloseTime > '${new Date(since).toISOString()}'`;
    const runs = client.workflow.list({ query: ENDED_FROM_OUTSIDE + bound });
    for await (const { workflowId, runId, closeTime } of runs) {
      if (!mayGoOn()) return;
      listed.add(runId);
      const closed = closeTime?.getTime() ?? 0;
      newest = Math.max(newest, closed);
      if (done.has(runId)) continue;
      if (await examine({ workflow_id: workflowId, run_id: runId })) done.add(runId);
      else oldestUnfinished = Math.min(oldestUnfinished, closed);
    }
    done = new Set([...done].filter((runId) => listed.has(runId)));
    for (const runId of firstListed.keys()) if (!listed.has(runId) || done.has(runId)) firstListed.delete(runId);
    if (listed.size > 0) since = Math.min(newest - LISTING_LAG_MS, oldestUnfinished - 1);
  };
}

/** The runs whose workflow task keeps failing and which have no row, so that the pass over the idle orders does not see them. */
function failingRuns({ client, views, log, signal }: SweepDeps, settleIfAbandoned: SettleIfAbandoned): Pass {
  let areReported = true;

  async function examine(run: Run, startTime: Date): Promise<void> {
    const order_id = orderIdOf(run.workflow_id);
    try {
      if (order_id === undefined || !RECORDED_ID_PATTERN.test(order_id) || (await views.find(order_id))) return;
      // Its policy is not known without a row.
      const isOverdue = Date.now() - startTime.getTime() > LONGEST_LIFE_MS + IDLE_MS;
      await settleIfAbandoned({ order_id, ...run }, isOverdue);
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error, ...run }, 'a failing run could not be examined');
    }
  }

  return async (mayGoOn) => {
    if (!areReported) return;
    try {
      for await (const { workflowId, runId, startTime } of client.workflow.list({ query: FAILING })) {
        if (!mayGoOn()) return;
        await examine({ workflow_id: workflowId, run_id: runId }, startTime);
      }
    } catch (error) {
      if (!isInvalidQuery(error)) throw error;
      areReported = false;
      log.info('this Temporal server does not report runs whose workflow task keeps failing');
    }
  };
}

const INVALID_ARGUMENT = 3;
const isInvalidQuery = (error: unknown): boolean =>
  error instanceof Error && isGrpcServiceError(error.cause) && error.cause.code === INVALID_ARGUMENT;

/** The open orders whose rows have not moved for longer than their state allows. */
function idleOrders({ openOrders, log, signal }: SweepDeps, settleIfAbandoned: SettleIfAbandoned): Pass {
  /** How far each state's orders have been examined in this round, and when the next one may begin. */
  const rounds = new Map(OPEN_STATES.map((state) => [state, { after: undefined as OpenOrder | undefined, next: 0 }]));

  async function examine(order: OpenOrder): Promise<boolean> {
    const { order_id } = order;
    try {
      return (await settleIfAbandoned(order, order.idle_ms > longestLife(order) + IDLE_MS)) === 'unknown';
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error, order_id }, 'an idle order could not be examined');
      return false;
    }
  }

  async function examinePage(state: OpenState, mayGoOn: () => boolean): Promise<void> {
    const round = rounds.get(state);
    if (!round || performance.now() < round.next) return;
    const page = await openOrders.inState(state, round.after, PAGE_SIZE);
    const unknown: string[] = [];
    for (const order of page) {
      if (!mayGoOn()) return;
      if (order.idle_ms > longestRest(order) + IDLE_MS && (await examine(order))) unknown.push(order.order_id);
      round.after = order;
    }
    if (unknown.length > 0)
      log.warn(
        { state, orders: unknown.length, order_id: unknown[0] },
        'Temporal does not know the run of open orders; they are settled once their time is over. Is TEMPORAL_NAMESPACE right?',
      );
    if (page.length < PAGE_SIZE) {
      round.after = undefined;
      round.next = performance.now() + IDLE_MS;
    }
  }

  return async (mayGoOn) => {
    for (const state of OPEN_STATES) if (mayGoOn()) await examinePage(state, mayGoOn);
  };
}

const LONGEST_LIFE_MS = POLICIES.production.budget_ms + POLICIES.production.review_ms;

/** How long an order's row may rest in its state without anything being wrong, in milliseconds. */
const longestRest = ({ state, policy }: OpenOrder): number =>
  state === 'awaiting_approval' ? policyOf(policy).review_ms : 0;

/** The most that an order's policy allows it from its last change to its end, in milliseconds. */
function longestLife({ state, policy }: OpenOrder): number {
  const { budget_ms, review_ms, review_in_budget } = policyOf(policy);
  const mayAwaitReview = state === 'received' || state === 'awaiting_approval';
  return budget_ms + (mayAwaitReview && !review_in_budget ? review_ms : 0);
}
