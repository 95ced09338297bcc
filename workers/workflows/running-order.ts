/** The state of a running order, shared by its steps, its commands and its status query, and the changes of its phase. */
import { condition, log, workflowInfo } from '@temporalio/workflow';
import type { Actor, Approval, Decisions } from '@trellis/contracts/actor';
import type { Command, CommandAnswer } from '@trellis/contracts/commands';
import { RECORDED_ID_PATTERN } from '@trellis/contracts/id';
import type { OrderInput } from '@trellis/contracts/order';
import type { Progress, WorkflowStatus } from '@trellis/contracts/order-status';
import { POLICIES_UNTIL_0_2, type Policy, policyOf } from '@trellis/contracts/policy';
import { type Ending, STEPS, type State, type Step } from '@trellis/contracts/states-and-steps';
import { orderIdOf } from '@trellis/contracts/temporal';
import { MAX_ORDER_BYTES, within } from './bounds.ts';

/**
 * `open`: commands may still change the order. `settling`: it ends without shipping, its money is refunded if needed.
 * `taken`: the carrier has the parcel, so only `shipped` can follow. `foreign`: another run owns the order.
 */
type Phase = 'open' | 'settling' | 'taken' | 'foreign';

/** What a run hands to the run that continues it: plain data. The fields of Progress, recorded in SQL at the end, have the contract's names. */
interface KeptState extends Progress {
  readonly order_id: string;
  /** The current code's numbers until `receive_order` has returned, then the recorded ones. */
  policy: Policy;
  /** When the order's first run started, epoch milliseconds. */
  readonly started: number;
  /** When the steps must be done, epoch milliseconds. The time reserved for a refund comes after it. */
  deadline: number;
  /** When the review window ends, epoch milliseconds; null until it opens. */
  reviewEnds: number | null;

  state: State;
  /** Who approved it, if anybody did. */
  approval: Approval | null;
  /** The accepted cancel, if any: once set, the order can only end `canceled`. */
  cancel: { reason: string; by?: Actor } | null;
  /** Changed only by the functions of this file. */
  readonly phase: Phase;

  /** The order's row exists and this run owns it. */
  received: boolean;
  /** From the first charge attempt until it is certain that nothing was charged. */
  mayBeCharged: boolean;
  /** A shipping attempt runs, or ended without the carrier's answer: the address can't be changed now. */
  carrierMayHaveParcel: boolean;
  /** When the pause before the next shipping attempt ends, epoch milliseconds; null when there is none. */
  nextAttemptAt: number | null;

  /** How the steps ended without shipping; a cancel that is accepted before the settling begins takes precedence. */
  stopped: Ending | null;
  /** How the order ends, fixed when the settling begins. */
  ending: Ending | null;

  /** Counted against COMMAND_LIMITS. */
  addressChanges: number;
  repetitions: number;
  refusals: number;
}

export interface RunningOrder extends KeptState {
  /** The workflow's argument as it was sent, empty if it was too large to be valid; valid once `validate_order` has accepted it. A new address is put into it. */
  input: OrderInput;

  /** The answer of each command, by the command's id. */
  readonly answers: Map<string, Promise<CommandAnswer>>;
  /** The answers of the accepted commands, except those that repeated what already held. */
  readonly applied: Map<string, CommandAnswer>;
  /** The commands without an answer, and those whose refusal is not recorded yet, by the command's id. */
  readonly undecided: Map<string, SentCommand>;
  /** Commands that the run before received and did not decide. */
  readonly inherited: readonly SentCommand[];
  /** Decisions under way. The order starts no shipping attempt and no settling while there are any. */
  pendingDecisions: number;
}

/** A command as it was received. `argument`: not valid yet, but small enough to be kept. */
export interface SentCommand {
  command: Command;
  id: string;
  argument: unknown;
  /** Absent in commands that a run of a version up to 0.5 received. */
  actor?: Actor;
  /** The API's signature of an approval. */
  proof?: string;
  /** Returned with the answer, so that the caller knows which of two requests under one id was decided. */
  arguments_hash?: string;
  /** `run before`: it was received and counted there. */
  by: 'update' | 'signal' | 'run before';
}

/** The second argument of a run that continues another one. */
export interface Continued {
  /** The run that was continued. */
  run_id: string;
  state: KeptState;
  applied: [id: string, CommandAnswer][];
  undecided: SentCommand[];
}

/**
 * Reads the workflow's arguments; undefined when neither the first nor the workflow's id holds a valid order id. `continued` is
 * read only if it comes from the run before.
 */
export function beginOrder(argument: unknown, continued: unknown): RunningOrder | undefined {
  const given = (typeof argument === 'object' && argument !== null ? argument : {}) as OrderInput;
  const before = continued as Continued | null | undefined;
  const { workflowId, continuedFromExecutionRunId } = workflowInfo();
  // A caller can't know that id: Temporal draws it when the run starts.
  const isContinued = continuedFromExecutionRunId !== undefined && before?.run_id === continuedFromExecutionRunId;
  const orderId = [given.order_id, orderIdOf(workflowId)].find(
    (id) => typeof id === 'string' && RECORDED_ID_PATTERN.test(id),
  );
  if (!isContinued && orderId === undefined) return undefined;
  const first = firstRun(orderId ?? '', policyOf(given.policy), workflowInfo().startTime.getTime());
  const { state, applied, undecided } = isContinued ? before : first;
  return {
    // The run before may have been of a version without some of the fields.
    ...first.state,
    ...state,
    // It is passed on to activities, whose input Temporal limits to 2 MB: an argument that is too large to be valid is dropped.
    input: within(MAX_ORDER_BYTES, given) ?? ({} as OrderInput),
    answers: new Map(applied.map(([id, answer]) => [id, Promise.resolve(answer)])),
    applied: new Map(applied),
    undecided: new Map(),
    inherited: undecided.map((sent) => ({ ...sent, by: 'run before' })),
    pendingDecisions: 0,
  };
}

function firstRun(orderId: string, policy: Policy, started: number): Omit<Continued, 'run_id'> {
  return {
    state: {
      order_id: orderId,
      policy,
      started,
      deadline: firstDeadline(policy, started),
      reviewEnds: null,
      state: 'received',
      step: 'init',
      approved: false,
      approval: null,
      cancel: null,
      phase: 'open',
      received: false,
      mayBeCharged: false,
      child_attempts: 0,
      carrierMayHaveParcel: false,
      nextAttemptAt: null,
      stopped: null,
      ending: null,
      addressChanges: 0,
      repetitions: 0,
      refusals: 0,
      last_error: null,
      dispatch_failed_reason: null,
    },
    applied: [],
    undecided: [],
  };
}

/** What the next run needs to continue the order, besides its input. */
export function continuedFrom(order: RunningOrder): Continued {
  const { input, answers, applied, undecided, inherited, pendingDecisions, ...state } = order;
  return { run_id: workflowInfo().runId, state, applied: [...applied], undecided: [...undecided.values()] };
}

/** Whether the order has not gone beyond the step: a run that continues another one begins where that one stopped. */
export const isYetTo = (order: RunningOrder, step: Step): boolean => STEPS.indexOf(order.step) <= STEPS.indexOf(step);

/** Sets the policy to the numbers that `receive_order` recorded, which later code does not change. Versions up to 0.2 recorded none. */
export function keepPolicy(order: RunningOrder, recorded: Policy | undefined): void {
  order.policy = recorded ?? policyOf(order.input.policy, POLICIES_UNTIL_0_2);
  order.deadline = firstDeadline(order.policy, order.started);
}

/** The deadline until the approval. When the review is not part of the budget, it is that of an approval at the window's last moment. */
function firstDeadline(policy: Policy, started: number): number {
  const { review_in_budget, review_ms, budget_ms } = policy;
  return deadlineOf(policy, started, review_in_budget ? budget_ms : review_ms + budget_ms);
}

/** The end of a budget that starts at `from`, or of the run's own timeouts if sooner, less the reserve for a refund. */
export function deadlineOf({ refund_reserve_ms }: Policy, from: number, budget: number): number {
  const { startTime, runTimeoutMs, executionExpirationTime } = workflowInfo();
  // In a run that continues another one, zero means that there is no timeout.
  const runEnds = runTimeoutMs ? startTime.getTime() + runTimeoutMs : Number.POSITIVE_INFINITY;
  const executionEnds = executionExpirationTime?.getTime() || Number.POSITIVE_INFINITY;
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
export function beginSettling(
  order: RunningOrder,
  given: Ending,
): { ending: Ending; progress: Progress; decisions: Decisions } {
  const ending: Ending = order.cancel ? { state: 'canceled', reason: order.cancel.reason } : given;
  enterPhase(order, 'settling');
  order.ending = ending;
  if (ending.state === 'failed') order.last_error = ending.detail ?? ending.reason;
  // Without the cancel reason, which may name a person, and without details, which may quote the address.
  const why = ending.state === 'failed' && { reason: ending.reason };
  log.info('order ends', { order_id: order.order_id, step: order.step, state: ending.state, ...why });
  return { ending, progress: progressOf(order), decisions: decisionsOf(order) };
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

const decisionsOf = ({ approval, cancel }: RunningOrder): Decisions => ({
  ...(approval && { approval }),
  ...(cancel?.by && { canceled_by: cancel.by }),
});

export function progressOf(order: RunningOrder): Progress {
  const { step, approved, child_attempts, last_error, dispatch_failed_reason } = order;
  return { step, approved, child_attempts, last_error, dispatch_failed_reason };
}
