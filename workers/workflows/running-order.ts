/** The state of a running order, shared by its steps, its commands and its status query, and the changes of its phase. */
import { condition, log, workflowInfo } from '@temporalio/workflow';
import type { CommandAnswer } from '@trellis/contracts/commands';
import { ID_PATTERN } from '@trellis/contracts/id';
import type { OrderInput } from '@trellis/contracts/order';
import type { Progress, WorkflowStatus } from '@trellis/contracts/order-status';
import { POLICIES_UNTIL_0_2, type Policy, policyOf } from '@trellis/contracts/policy';
import type { Ending, State } from '@trellis/contracts/states-and-steps';
import { orderIdOf } from '@trellis/contracts/temporal';

/**
 * `open`: commands may still change the order. `settling`: it ends without shipping, its money is refunded if needed.
 * `taken`: the carrier has the parcel, so only `shipped` can follow. `foreign`: another run owns the order.
 */
type Phase = 'open' | 'settling' | 'taken' | 'foreign';

/** The fields of Progress, which SQL records when the order ends, have the contract's names. */
export interface RunningOrder extends Progress {
  readonly order_id: string;
  /** The workflow's argument as it was sent, valid once `validate_order` has accepted it. A new address is put into it. */
  input: OrderInput;
  /** The current code's numbers until `receive_order` has returned, then the recorded ones. */
  policy: Policy;
  /** When the steps must be done, epoch milliseconds. The time reserved for a refund comes after it. */
  deadline: number;

  state: State;
  /** The accepted cancel, if any: once set, the order can only end `canceled`. */
  cancel: { reason: string } | null;
  /** Changed only by the functions of this file. */
  readonly phase: Phase;

  /** The order's row exists and this run owns it. */
  received: boolean;
  /** From the first charge attempt until it is certain that nothing was charged. */
  mayBeCharged: boolean;
  /** A shipping attempt runs, or ended without the carrier's answer: the address can't be changed now. */
  carrierMayHaveParcel: boolean;
  addressChanges: number;
  /** Commands being decided. The order starts no shipping attempt and no settling while there are any. */
  pendingDecisions: number;
  /** The answer of each command, by the command's id. */
  readonly answers: Map<string, Promise<CommandAnswer>>;

  ending: Ending | null;
}

/** Reads the workflow's argument; undefined when neither it nor the workflow's id holds a valid order id. */
export function beginOrder(argument: unknown): RunningOrder | undefined {
  const input = (typeof argument === 'object' && argument !== null ? argument : {}) as OrderInput;
  const orderId = [input.order_id, orderIdOf(workflowInfo().workflowId)].find(
    (id) => typeof id === 'string' && ID_PATTERN.test(id),
  );
  if (orderId === undefined) return undefined;
  const policy = policyOf(input.policy);
  return {
    order_id: orderId,
    input,
    policy,
    deadline: firstDeadline(policy),
    state: 'received',
    step: 'init',
    approved: false,
    cancel: null,
    phase: 'open',
    received: false,
    mayBeCharged: false,
    child_attempts: 0,
    carrierMayHaveParcel: false,
    addressChanges: 0,
    pendingDecisions: 0,
    answers: new Map(),
    ending: null,
    last_error: null,
    dispatch_failed_reason: null,
  };
}

/** Sets the policy to the numbers that `receive_order` recorded, which later code does not change. Versions up to 0.2 recorded none. */
export function keepPolicy(order: RunningOrder, recorded: Policy | undefined): void {
  order.policy = recorded ?? policyOf(order.input.policy, POLICIES_UNTIL_0_2);
  order.deadline = firstDeadline(order.policy);
}

/** The deadline until the approval. When the review is not part of the budget, it is that of an approval at the window's last moment. */
function firstDeadline(policy: Policy): number {
  const { review_in_budget, review_ms, budget_ms } = policy;
  return deadlineOf(policy, workflowInfo().startTime.getTime(), review_in_budget ? budget_ms : review_ms + budget_ms);
}

/** The end of a budget that starts at `from`, or of the run's own timeouts if sooner, less the reserve for a refund. */
export function deadlineOf({ refund_reserve_ms }: Policy, from: number, budget: number): number {
  const { startTime, runTimeoutMs, executionExpirationTime } = workflowInfo();
  const runEnds = runTimeoutMs === undefined ? Number.POSITIVE_INFINITY : startTime.getTime() + runTimeoutMs;
  const executionEnds = executionExpirationTime?.getTime() ?? Number.POSITIVE_INFINITY;
  return Math.min(from + budget, runEnds, executionEnds) - refund_reserve_ms;
}

/** The run changes nothing: another run owns the order, or the order has ended. */
export function ownedByAnotherRun(order: RunningOrder): void {
  enterPhase(order, 'foreign');
}

/** The window has closed without an approval. From here on, commands that are still being decided are TOO_LATE. */
export function windowClosed(order: RunningOrder): void {
  enterPhase(order, 'settling');
}

export function parcelTaken(order: RunningOrder): void {
  enterPhase(order, 'taken');
}

/** Fixes how the order ends without shipping; an accepted cancel takes precedence over every other ending. Returns what SQL records. */
export function beginSettling(order: RunningOrder, given: Ending): { ending: Ending; progress: Progress } {
  const ending: Ending = order.cancel ? { state: 'canceled', reason: order.cancel.reason } : given;
  enterPhase(order, 'settling');
  order.ending = ending;
  if (ending.state === 'failed') order.last_error = ending.detail ?? ending.reason;
  log.info('order ends', { order_id: order.order_id, step: order.step, ...ending });
  return { ending, progress: progressOf(order) };
}

function enterPhase(order: { phase: Phase }, phase: Phase): void {
  order.phase = phase;
}

/**
 * Runs `act` synchronously once `ready()` holds. Temporal tests all conditions before it wakes any waiter, so one waiter
 * may make the condition of the next false again: each tests it once more.
 */
export async function whenReady<T>(ready: () => boolean, act: () => T | Promise<T>): Promise<T> {
  while (!ready()) await condition(ready);
  return act();
}

export function statusOf(order: RunningOrder): WorkflowStatus {
  const { order_id, state, cancel, ending } = order;
  return {
    order_id,
    state,
    ...progressOf(order),
    canceled: cancel !== null,
    cancel_reason: cancel?.reason ?? null,
    reason: ending?.state === 'failed' ? ending.reason : null,
  };
}

export function progressOf(order: RunningOrder): Progress {
  const { step, approved, child_attempts, last_error, dispatch_failed_reason } = order;
  return { step, approved, child_attempts, last_error, dispatch_failed_reason };
}
