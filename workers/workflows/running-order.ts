/** What a running order knows of itself: shared by its steps, its commands and its status query. */
import { condition, workflowInfo } from '@temporalio/workflow';
import type { CommandAnswer } from '@trellis/contracts/command';
import { ID_PATTERN } from '@trellis/contracts/id';
import type { Ending, State, Step } from '@trellis/contracts/lifecycle';
import type { OrderInput } from '@trellis/contracts/order';
import { type Policy, policyOf } from '@trellis/contracts/policy';
import type { Progress, WorkflowStatus } from '@trellis/contracts/status';
import { orderIdOf } from '@trellis/contracts/temporal';

export interface RunningOrder {
  readonly orderId: string;
  /** As it was sent until `validate_order` has found it sound; its address may change later. */
  order: OrderInput;
  readonly policy: Policy;
  /** Steps must be done by then, epoch milliseconds; what is kept back for a refund comes after. */
  deadline: number;

  state: State;
  step: Step;
  approved: boolean;
  /** An accepted cancel: from here on the order can only end `canceled`. */
  cancel: { reason: string } | null;
  /** `settling`: closing, perhaps refunding. `taken`: the carrier has the parcel, only `shipped` can follow. `foreign`: another run has the order. */
  phase: 'open' | 'settling' | 'taken' | 'foreign';

  /** The row exists and is this run's own. */
  received: boolean;
  /** From the first try to charge until it is known that nothing was taken. */
  mayHoldMoney: boolean;
  shippingAttempts: number;
  /** A try is under way, or ended without the carrier's word: the address has to wait. */
  parcelMayBeTaken: boolean;
  addressChanges: number;
  /** Commands that are being decided; the order doesn't pass a point of no return while there are any. */
  undecided: number;
  readonly answers: Map<string, Promise<CommandAnswer>>;

  ending: Ending | null;
  lastError: string | null;
  dispatchFailedReason: string | null;
}

/** The running of an order that begins; undefined when neither the argument nor the workflow's id tells which order it is. */
export function beginOrder(input: unknown): RunningOrder | undefined {
  const order = (typeof input === 'object' && input !== null ? input : {}) as OrderInput;
  const orderId = [order.order_id, orderIdOf(workflowInfo().workflowId)].find(
    (id) => typeof id === 'string' && ID_PATTERN.test(id),
  );
  if (orderId === undefined) return undefined;
  const policy = policyOf(order.policy);
  const { review_in_budget, review_ms, budget_ms } = policy;
  return {
    orderId,
    order,
    policy,
    deadline: deadlineOf(
      policy,
      workflowInfo().startTime.getTime(),
      review_in_budget ? budget_ms : review_ms + budget_ms,
    ),
    state: 'received',
    step: 'init',
    approved: false,
    cancel: null,
    phase: 'open',
    received: false,
    mayHoldMoney: false,
    shippingAttempts: 0,
    parcelMayBeTaken: false,
    addressChanges: 0,
    undecided: 0,
    answers: new Map(),
    ending: null,
    lastError: null,
    dispatchFailedReason: null,
  };
}

/** A budget from a moment on, or the caller's own timeout of the run if that ends sooner, less what a refund may need. */
export function deadlineOf({ refund_reserve_ms }: Policy, from: number, budget: number): number {
  const { startTime, runTimeoutMs, executionExpirationTime } = workflowInfo();
  const runEnds = runTimeoutMs === undefined ? Number.POSITIVE_INFINITY : startTime.getTime() + runTimeoutMs;
  const callerEnds = executionExpirationTime?.getTime() ?? Number.POSITIVE_INFINITY;
  return Math.min(from + budget, runEnds, callerEnds) - refund_reserve_ms;
}

/**
 * Waits for a condition that another waiter may spoil, then acts. Temporal judges all blocked conditions first and wakes
 * their waiters then, so each has to look again, and to act in the same breath.
 */
export async function whenReady<T>(ready: () => boolean, act: () => T | Promise<T>): Promise<T> {
  while (!ready()) await condition(ready);
  return act();
}

export function statusOf(running: RunningOrder): WorkflowStatus {
  return {
    order_id: running.orderId,
    state: running.state,
    step: running.step,
    approved: running.approved,
    canceled: running.cancel !== null,
    cancel_reason: running.cancel?.reason ?? null,
    child_attempts: running.shippingAttempts,
    last_error: running.lastError,
    dispatch_failed_reason: running.dispatchFailedReason,
    reason: running.ending?.state === 'failed' ? running.ending.reason : null,
  };
}

export function progressOf(running: RunningOrder): Progress {
  return {
    step: running.step,
    approved: running.approved,
    child_attempts: running.shippingAttempts,
    last_error: running.lastError,
    dispatch_failed_reason: running.dispatchFailedReason,
  };
}
