/** An order from start to its end: received, validated, approved by a person, charged, shipped; or closed with its money returned. */
import { allHandlersFinished, CancellationScope, condition, log, workflowInfo } from '@temporalio/workflow';
import { type Ending, isTerminal, type State, type Step } from '@trellis/contracts/lifecycle';
import type { OrderInput } from '@trellis/contracts/order';
import { acceptCommands } from './commands.ts';
import { endingFor, failed, OrderEnds, stopIfCanceled, unlessCanceled } from './ending.ts';
import { runLocally, runRemotely } from './run-activity.ts';
import { beginOrder, deadlineOf, progressOf, type RunningOrder, whenReady } from './running-order.ts';
import { shipOrder } from './ship-order.ts';

/** Answers the state the order is closed in. A run that isn't the order's first changes nothing and answers the recorded state. */
export async function OrderWorkflow(input: OrderInput): Promise<State> {
  const running = beginOrder(input);
  if (!running) return 'failed';
  acceptCommands(running);
  return CancellationScope.nonCancellable(async () => {
    const state = await runSteps(running);
    // A Temporal cancellation has no handler, but is decided like any other cancel.
    const answered = () => allHandlersFinished() && running.undecided === 0;
    return whenReady(answered, () => state);
  });
}

async function runSteps(running: RunningOrder): Promise<State> {
  try {
    const recorded = await receive(running);
    if (recorded) return recorded;
    await validate(running);
    await review(running);
    await charge(running);
    await ship(running);
  } catch (error) {
    const settled = await settle(running, endingFor(error));
    if (settled !== 'taken') return settled;
  }
  return markShipped(running);
}

async function receive(running: RunningOrder): Promise<State | undefined> {
  enter(running, 'receive_order');
  const { owner, state } = await runLocally('receive_order', {
    ...receiveInput(running),
    deadline_at: running.deadline,
  });
  if (owner && !isTerminal(state)) {
    running.received = true;
    return undefined;
  }
  running.phase = 'foreign';
  return state;
}

/** Whatever was asked meanwhile waits: on replay, what came beside the order's first steps may come before them. */
async function validate(running: RunningOrder): Promise<void> {
  enter(running, 'validate_order');
  const { orderId: order_id, order, deadline: deadline_at } = running;
  const verdict = await runLocally('validate_order', { order_id, order, deadline_at });
  if (!verdict.valid) {
    const detail = verdict.problems.map(({ path, message }) => `${path}: ${message}`).join('; ');
    throw failed('INVALID_ORDER', detail.slice(0, 500));
  }
  running.state = running.approved ? 'approved' : 'awaiting_approval';
}

/** A person has the review window to approve; one who was quicker than the order isn't made to wait. */
async function review(running: RunningOrder): Promise<void> {
  enter(running, 'awaiting_approval');
  const decided = () => running.approved || running.cancel !== null;
  if (!decided())
    await condition(decided, Math.max(1, Math.min(running.policy.review_ms, running.deadline - Date.now())));
  stopIfCanceled(running);
  if (!running.approved) {
    // At once: whatever else is being decided, an approval comes too late from here on.
    running.phase = 'settling';
    throw new OrderEnds({ state: 'expired' });
  }
  if (!running.policy.review_in_budget)
    running.deadline = deadlineOf(running.policy, Date.now(), running.policy.budget_ms);
}

async function charge(running: RunningOrder): Promise<void> {
  enter(running, 'charge_payment');
  running.mayHoldMoney = true;
  const { orderId: order_id, order, deadline: deadline_at } = running;
  const work = runRemotely('charge_payment', { order_id, payment_id: order.payment_id, deadline_at });
  const outcome = await unlessCanceled(running, work);
  if (outcome === 'charged') {
    running.state = 'payment_charged';
    return;
  }
  // A closed order or key may still have been charged before; the others took nothing.
  running.mayHoldMoney = outcome === 'closed';
  if (outcome === 'declined') throw failed('PAYMENT_DECLINED');
  if (outcome === 'conflict') throw failed('PAYMENT_CONFLICT');
  throw failed('DEADLINE', 'the order was closed from outside');
}

async function ship(running: RunningOrder): Promise<void> {
  enter(running, 'shipping_child');
  running.state = 'shipping';
  await shipOrder(running);
}

async function markShipped(running: RunningOrder): Promise<State> {
  enter(running, 'mark_shipped');
  running.state = await runLocally('mark_shipped', { order_id: running.orderId, progress: progressOf(running) });
  if (running.state === 'shipped') enter(running, 'done');
  return running.state;
}

/**
 * Closes an order that doesn't ship, its money given back first, however long it takes. An accepted cancel outranks
 * every other ending. Answers `taken` when the parcel turns out to have left after all.
 */
async function settle(running: RunningOrder, ending: Ending): Promise<State | 'taken'> {
  const closing = await whenReady(
    () => running.undecided === 0,
    () => beginSettling(running, ending),
  );
  if (!running.mayHoldMoney) {
    // Not locally: a signal that met the closing task would have it run again, with another outcome.
    const closed = await runRemotely('close_order', { ...receiveInput(running), ...closing });
    if (closed !== 'owed') {
      running.state = closed;
      return closed;
    }
  }
  const { orderId: order_id, order } = running;
  const refunded = await runRemotely('refund_payment', { order_id, payment_id: order.payment_id, ...closing });
  if (refunded.outcome === 'taken') {
    running.phase = 'taken';
    return 'taken';
  }
  running.state = refunded.state;
  return running.state;
}

function beginSettling(running: RunningOrder, given: Ending) {
  const ending: Ending = running.cancel ? { state: 'canceled', reason: running.cancel.reason } : given;
  running.phase = 'settling';
  running.ending = ending;
  if (ending.state === 'failed') running.lastError = ending.detail ?? ending.reason;
  log.info('order ends', { order_id: running.orderId, step: running.step, ...ending });
  return { ending, progress: progressOf(running) };
}

function enter(running: RunningOrder, step: Step): void {
  running.step = step;
  log.info('step', { order_id: running.orderId, step, state: running.state });
}

function receiveInput({ orderId, order }: RunningOrder) {
  const { workflowId, firstExecutionRunId } = workflowInfo();
  return { order_id: orderId, order, run: { workflow_id: workflowId, run_id: firstExecutionRunId } };
}
