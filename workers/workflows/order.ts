/** An order from start to end: received, validated, approved by a person, charged and shipped; or refunded and ended. */
import {
  allHandlersFinished,
  CancellationScope,
  condition,
  continueAsNew,
  log,
  workflowInfo,
} from '@temporalio/workflow';
import type { OrderInput } from '@trellis/contracts/order';
import { type Ending, isTerminal, type State, type Step } from '@trellis/contracts/states-and-steps';
import { boundsLocalActivities, historyIsFull } from './bounds.ts';
import { acceptCommands } from './commands.ts';
import { EndedUnshipped, endingOf, failed, orCanceled, stopIfCanceled } from './ending.ts';
import { localActivities, runLocally, runQuickly, runRemotely } from './run-activity.ts';
import {
  beginOrder,
  beginSettling,
  type Continued,
  continuedFrom,
  deadlineOf,
  isYetTo,
  keepPolicy,
  ownedByAnotherRun,
  parcelTaken,
  progressOf,
  type RunningOrder,
  whenReady,
  windowClosed,
} from './running-order.ts';
import { shipOrder } from './ship-order.ts';

/**
 * Returns the order's terminal state. A run that doesn't own the order changes nothing and returns the recorded state. A run whose
 * history is full continues as new, whatever it waits for: the next run begins the step again, which each step allows.
 */
export async function OrderWorkflow(input: OrderInput, continued?: Continued): Promise<State> {
  const order = beginOrder(input, continued);
  if (!order) return 'failed';
  acceptCommands(order);
  return CancellationScope.nonCancellable(() => Promise.race([live(order), continueWhenFull(order)]));
}

async function live(order: RunningOrder): Promise<State> {
  const state = await runSteps(order);
  // A Temporal cancellation runs outside of the handlers, and so do the commands that the run before did not decide.
  const answered = () => allHandlersFinished() && order.undecided.size === 0;
  return whenReady(answered, () => state);
}

async function continueWhenFull(order: RunningOrder): Promise<never> {
  // The commands that follow from a local activity's result would be recorded in this run, and the next run would not know of them.
  await condition(() => historyIsFull() && !(localActivities() > 0 && boundsLocalActivities()));
  log.info('continues as new', { order_id: order.order_id, step: order.step });
  return continueAsNew<typeof OrderWorkflow>(order.input, continuedFrom(order));
}

async function runSteps(order: RunningOrder): Promise<State> {
  if (isTerminal(order.state)) return order.state;
  if (order.phase === 'taken') return markShipped(order);
  try {
    if (order.stopped) throw new EndedUnshipped(order.stopped);
    if (!order.received) {
      const recorded = await receive(order);
      if (recorded) return recorded;
    }
    if (isYetTo(order, 'validate_order')) await validate(order);
    if (isYetTo(order, 'awaiting_approval')) await review(order);
    if (isYetTo(order, 'charge_payment')) await charge(order);
    await ship(order);
  } catch (error) {
    const settled = await settle(order, endingOf(error));
    if (settled !== 'taken') return settled;
  }
  return markShipped(order);
}

/** Returns the recorded state when there is nothing for this run to do. */
async function receive(order: RunningOrder): Promise<State | undefined> {
  enter(order, 'receive_order');
  const { owner, state, policy } = await runLocally('receive_order', {
    ...receiveInput(order),
    deadline_at: order.deadline,
    run_started_at: workflowInfo().startTime.getTime(),
  });
  if (owner && !isTerminal(state)) {
    order.received = true;
    keepPolicy(order, policy);
    return undefined;
  }
  ownedByAnotherRun(order);
  return state;
}

/** Commands don't interrupt it: on replay a signal may be delivered earlier relative to the first local activities. */
async function validate(order: RunningOrder): Promise<void> {
  enter(order, 'validate_order');
  const { order_id, input, deadline: deadline_at } = order;
  const validated = await runLocally('validate_order', { order_id, order: input, deadline_at });
  if (!validated.valid) {
    const detail = validated.problems.map(({ path, message }) => `${path}: ${message}`).join('; ');
    throw failed('INVALID_ORDER', detail.slice(0, 500));
  }
  order.state = order.approved ? 'approved' : 'awaiting_approval';
}

/** Waits for a person's approval until the review window ends. An order that was approved earlier doesn't wait. */
async function review(order: RunningOrder): Promise<void> {
  enter(order, 'awaiting_approval');
  order.reviewEnds ??= Date.now() + Math.min(order.policy.review_ms, order.deadline - Date.now());
  const decided = () => order.approved || order.cancel !== null;
  if (!decided()) await condition(decided, Math.max(1, order.reviewEnds - Date.now()));
  stopIfCanceled(order);
  if (!order.approved) {
    windowClosed(order);
    throw new EndedUnshipped({ state: 'expired' });
  }
  if (!order.policy.review_in_budget) order.deadline = deadlineOf(order.policy, Date.now(), order.policy.budget_ms);
}

async function charge(order: RunningOrder): Promise<void> {
  enter(order, 'charge_payment');
  order.mayBeCharged = true;
  const { order_id, input, deadline: deadline_at } = order;
  const approved = order.approval && { approval: order.approval };
  const payment = { order_id, payment_id: input.payment_id, deadline_at, ...approved };
  const charging = runQuickly('charge_payment', payment, order.policy);
  const outcome = await orCanceled(order, charging);
  if (outcome === 'charged') {
    order.state = 'payment_charged';
    return;
  }
  // `closed` leaves open whether an earlier charge succeeded; after the other outcomes nothing was charged.
  order.mayBeCharged = outcome === 'closed';
  if (outcome === 'declined') throw failed('PAYMENT_DECLINED');
  if (outcome === 'unapproved') throw failed('UNAPPROVED', 'the approval has no valid signature of the API');
  if (outcome === 'conflict') throw failed('PAYMENT_CONFLICT');
  throw failed('DEADLINE', 'the order was settled from outside');
}

async function ship(order: RunningOrder): Promise<void> {
  enter(order, 'shipping_child');
  order.state = 'shipping';
  await shipOrder(order);
}

async function markShipped(order: RunningOrder): Promise<State> {
  enter(order, 'mark_shipped');
  order.state = await runLocally('mark_shipped', { order_id: order.order_id, progress: progressOf(order) });
  if (order.state === 'shipped') enter(order, 'done');
  return order.state;
}

/**
 * Ends an order that doesn't ship; refunds it first if it may have been charged, however long that takes. Returns the
 * terminal state, or `taken` when the carrier turns out to have the parcel.
 */
async function settle(order: RunningOrder, given: Ending): Promise<State | 'taken'> {
  order.stopped = given;
  const settling = await whenReady(
    () => order.pendingDecisions === 0,
    () => beginSettling(order, given),
  );
  if (!order.mayBeCharged) {
    // Not a local activity: a signal during the last task would have Temporal rerun it, perhaps with another result.
    const closed = await runRemotely('close_order', { ...receiveInput(order), ...settling });
    if (closed !== 'owed') {
      order.state = closed;
      return closed;
    }
  }
  const { order_id, input } = order;
  const refunded = await runRemotely('refund_payment', { order_id, payment_id: input.payment_id, ...settling });
  if (refunded.outcome === 'taken') {
    parcelTaken(order);
    return 'taken';
  }
  order.state = refunded.state;
  return order.state;
}

function enter(order: RunningOrder, step: Step): void {
  order.step = step;
  log.info('step', { order_id: order.order_id, step, state: order.state });
}

function receiveInput({ order_id, input }: RunningOrder) {
  const { workflowId, firstExecutionRunId } = workflowInfo();
  return { order_id, order: input, run: { workflow_id: workflowId, run_id: firstExecutionRunId } };
}
