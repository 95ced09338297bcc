/** An order from start to its end: received, validated, approved by a person, charged, shipped; or closed with its money returned. */
import { allHandlersFinished, CancellationScope, condition, log, workflowInfo } from '@temporalio/workflow';
import { type Ending, isClosed, type State, type Step } from '@trellis/contracts/lifecycle';
import type { OrderInput } from '@trellis/contracts/order';
import { acceptCommands } from './commands.ts';
import { endingFor, failed, OrderEnds, stopIfCanceled, unlessCanceled } from './endings.ts';
import { beginLife, deadlineOf, type Life, progressOf, until } from './life.ts';
import { runLocally, runRemotely } from './steps.ts';
import { shipInTries } from './tries.ts';

/** Answers the state the order is closed in. A run that isn't the order's first changes nothing and answers the recorded state. */
export async function OrderWorkflow(input: OrderInput): Promise<State> {
  const life = beginLife(input);
  if (!life) return 'failed';
  acceptCommands(life);
  return CancellationScope.nonCancellable(async () => {
    const state = await live(life);
    // A Temporal cancellation has no handler, but is decided like any other cancel.
    const answered = () => allHandlersFinished() && life.undecided === 0;
    return until(answered, () => state);
  });
}

async function live(life: Life): Promise<State> {
  try {
    const recorded = await receive(life);
    if (recorded) return recorded;
    await validate(life);
    await review(life);
    await charge(life);
    await ship(life);
  } catch (error) {
    const settled = await settle(life, endingFor(error));
    if (settled !== 'taken') return settled;
  }
  return markShipped(life);
}

async function receive(life: Life): Promise<State | undefined> {
  enter(life, 'receive_order');
  const { owner, state } = await runLocally('receive_order', { ...asReceived(life), deadline_at: life.deadline });
  if (owner && !isClosed(state)) {
    life.received = true;
    return undefined;
  }
  life.phase = 'foreign';
  return state;
}

/** Whatever was asked meanwhile waits: on replay, what came beside the order's first steps may come before them. */
async function validate(life: Life): Promise<void> {
  enter(life, 'validate_order');
  const { orderId: order_id, order, deadline: deadline_at } = life;
  const verdict = await runLocally('validate_order', { order_id, order, deadline_at });
  if (!verdict.valid) {
    const detail = verdict.problems.map(({ path, message }) => `${path}: ${message}`).join('; ');
    throw failed('INVALID_ORDER', detail.slice(0, 500));
  }
  life.state = life.approved ? 'approved' : 'awaiting_approval';
}

/** A person has the review window to approve; one who was quicker than the order isn't made to wait. */
async function review(life: Life): Promise<void> {
  enter(life, 'awaiting_approval');
  const decided = () => life.approved || life.cancel !== null;
  if (!decided()) await condition(decided, Math.max(1, Math.min(life.policy.review_ms, life.deadline - Date.now())));
  stopIfCanceled(life);
  if (!life.approved) {
    // At once: whatever else is being decided, an approval comes too late from here on.
    life.phase = 'settling';
    throw new OrderEnds({ state: 'expired' });
  }
  if (!life.policy.review_in_budget) life.deadline = deadlineOf(life.policy, Date.now(), life.policy.budget_ms);
}

async function charge(life: Life): Promise<void> {
  enter(life, 'charge_payment');
  life.mayHoldMoney = true;
  const { orderId: order_id, order, deadline: deadline_at } = life;
  const work = runRemotely('charge_payment', { order_id, payment_id: order.payment_id, deadline_at });
  const outcome = await unlessCanceled(life, work);
  if (outcome === 'charged') {
    life.state = 'payment_charged';
    return;
  }
  // A closed order or key may still have been charged before; the others took nothing.
  life.mayHoldMoney = outcome === 'closed';
  if (outcome === 'declined') throw failed('PAYMENT_DECLINED');
  if (outcome === 'conflict') throw failed('PAYMENT_CONFLICT');
  throw failed('DEADLINE', 'the order was closed from outside');
}

async function ship(life: Life): Promise<void> {
  enter(life, 'shipping_child');
  life.state = 'shipping';
  await shipInTries(life);
}

async function markShipped(life: Life): Promise<State> {
  enter(life, 'mark_shipped');
  life.state = await runLocally('mark_shipped', { order_id: life.orderId, progress: progressOf(life) });
  if (life.state === 'shipped') enter(life, 'done');
  return life.state;
}

/**
 * Closes an order that doesn't ship, its money given back first, however long it takes. An accepted cancel outranks
 * every other ending. Answers `taken` when the parcel turns out to have left after all.
 */
async function settle(life: Life, ending: Ending): Promise<State | 'taken'> {
  const closing = await until(
    () => life.undecided === 0,
    () => beginSettling(life, ending),
  );
  if (!life.mayHoldMoney) {
    // Not locally: a signal that met the closing task would have it run again, with another outcome.
    const closed = await runRemotely('close_order', { ...asReceived(life), ...closing });
    if (closed !== 'owed') {
      life.state = closed;
      return closed;
    }
  }
  const { orderId: order_id, order } = life;
  const refunded = await runRemotely('refund_payment', { order_id, payment_id: order.payment_id, ...closing });
  if (refunded.outcome === 'taken') {
    life.phase = 'taken';
    return 'taken';
  }
  life.state = refunded.state;
  return life.state;
}

function beginSettling(life: Life, given: Ending) {
  const ending: Ending = life.cancel ? { state: 'canceled', reason: life.cancel.reason } : given;
  life.phase = 'settling';
  life.ending = ending;
  if (ending.state === 'failed') life.lastError = ending.detail ?? ending.reason;
  log.info('order ends', { order_id: life.orderId, step: life.step, ...ending });
  return { ending, progress: progressOf(life) };
}

function enter(life: Life, step: Step): void {
  life.step = step;
  log.info('step', { order_id: life.orderId, step, state: life.state });
}

function asReceived({ orderId, order }: Life) {
  const { workflowId, firstExecutionRunId } = workflowInfo();
  return { order_id: orderId, order, run: { workflow_id: workflowId, run_id: firstExecutionRunId } };
}
