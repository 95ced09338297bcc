/** An order from start to its end: received, validated, approved by a person, charged, shipped; or closed with its money returned. */
import {
  allHandlersFinished,
  CancellationScope,
  ChildWorkflowFailure,
  condition,
  executeChild,
  log,
  TimeoutFailure,
  workflowInfo,
} from '@temporalio/workflow';
import type { Ending, FailureReason, State, Step } from '@trellis/contracts/lifecycle';
import type { OrderInput } from '@trellis/contracts/order';
import {
  type DispatchFailure,
  SHIPPING_QUEUE,
  SHIPPING_WORKFLOW,
  type ShippingInput,
  type ShippingResult,
  shippingWorkflowId,
  WORKFLOW_TASK_TIMEOUT_MS,
} from '@trellis/contracts/temporal';
import { acceptCommands } from './commands.ts';
import { beginLife, type Life, progressOf } from './life.ts';
import { OutOfTime, runLocally, runRemotely } from './steps.ts';

/** Answers the state the order is closed in. A run that isn't the order's first changes nothing and answers the recorded state. */
export async function OrderWorkflow(input: OrderInput): Promise<State> {
  const life = beginLife(input);
  if (!life) return 'failed';
  acceptCommands(life);
  return CancellationScope.nonCancellable(async () => {
    const state = await live(life);
    await condition(allHandlersFinished);
    return state;
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
  if (owner) life.received = true;
  else life.phase = 'settling';
  return owner ? undefined : state;
}

async function validate(life: Life): Promise<void> {
  enter(life, 'validate_order');
  stopIfCanceled(life);
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
  if (!life.approved) throw new OrderEnds({ state: 'expired' });
  const { review_in_budget, budget_ms, refund_reserve_ms } = life.policy;
  if (!review_in_budget) life.deadline = Date.now() + budget_ms - refund_reserve_ms;
}

async function charge(life: Life): Promise<void> {
  enter(life, 'charge_payment');
  life.chargeTried = true;
  const { orderId: order_id, order, deadline: deadline_at } = life;
  const work = runRemotely('charge_payment', { order_id, payment_id: order.payment_id, deadline_at });
  const outcome = await unlessCanceled(life, work);
  if (outcome === 'charged') {
    life.state = 'payment_charged';
    return;
  }
  life.chargeTried = outcome === 'closed';
  if (outcome === 'declined') throw failed('PAYMENT_DECLINED');
  if (outcome === 'conflict') throw failed('PAYMENT_CONFLICT');
  throw failed('DEADLINE', 'the order was closed from outside');
}

/** Tries until the carrier has the parcel, pausing between tries; a new address ends the pause. */
async function ship(life: Life): Promise<void> {
  enter(life, 'shipping_child');
  life.state = 'shipping';
  const { ship_min_tries, ship_backoff_ms, ship_try_ms } = life.policy;
  for (;;) {
    await condition(() => life.undecided === 0);
    stopIfCanceled(life);
    const refusal = await tryToShip(life);
    if (!refusal) return;
    const timeLeft = life.deadline - Date.now();
    if (
      refusal === 'CARRIER_CLOSED' ||
      (life.shipAttempts >= ship_min_tries && timeLeft < ship_backoff_ms + ship_try_ms)
    )
      throw failed(
        refusal === 'CARRIER_REFUSED' ? 'CARRIER_REFUSED' : 'DEADLINE',
        life.dispatchFailedReason ?? undefined,
      );
    const { addressChanges } = life;
    await condition(() => life.cancel !== null || life.addressChanges !== addressChanges, ship_backoff_ms);
  }
}

/** One child workflow, one try. Answers why it failed, nothing when the parcel left. */
async function tryToShip(life: Life): Promise<DispatchFailure | undefined> {
  life.shipAttempts += 1;
  life.tryRunning = true;
  const time = tryTime(life);
  const input: ShippingInput = {
    order: life.order,
    parent_workflow_id: workflowInfo().workflowId,
    attempt: life.shipAttempts,
    deadline_at: Date.now() + time,
  };
  const child = executeChild<(input: ShippingInput) => Promise<ShippingResult>>(SHIPPING_WORKFLOW, {
    workflowId: shippingWorkflowId(life.orderId, life.shipAttempts),
    taskQueue: SHIPPING_QUEUE,
    args: [input],
    workflowIdReusePolicy: 'REJECT_DUPLICATE',
    workflowTaskTimeout: WORKFLOW_TASK_TIMEOUT_MS,
    // Wakes us when no shipping worker lives; a living one reports a little earlier by itself.
    workflowRunTimeout: time + 500,
  });
  try {
    await unlessCanceled(life, child);
    life.phase = 'taken';
    return undefined;
  } catch (error) {
    if (error instanceof OrderEnds) throw error;
    return noteFailedTry(life, error);
  } finally {
    life.tryRunning = false;
  }
}

/** What is left of the budget, less what the tries still owed to the order need. */
function tryTime({ deadline, policy, shipAttempts }: Life): number {
  const owed = Math.max(0, policy.ship_min_tries - shipAttempts);
  const left = deadline - Date.now() - owed * (policy.ship_backoff_ms + policy.ship_try_ms);
  return Math.max(policy.ship_try_ms, left);
}

function noteFailedTry(life: Life, error: unknown): DispatchFailure {
  const cause = error instanceof ChildWorkflowFailure ? error.cause : error;
  const type = cause && 'type' in (cause as object) ? (cause as { type: DispatchFailure }).type : undefined;
  const reason =
    cause instanceof TimeoutFailure ? 'no shipping worker finished it in time' : String((cause as Error).message);
  life.lastError = reason;
  life.dispatchFailedReason = reason;
  log.warn('try to ship failed', { order_id: life.orderId, step: life.step, attempt: life.shipAttempts, reason });
  return type ?? 'UNKNOWN';
}

async function markShipped(life: Life): Promise<State> {
  enter(life, 'mark_shipped');
  life.state = await runLocally('mark_shipped', { order_id: life.orderId, progress: progressOf(life) });
  enter(life, 'done');
  return life.state;
}

/**
 * Closes an order that doesn't ship and gives its money back, in one transaction and however long it takes. An
 * accepted cancel outranks every other ending. Answers `taken` when the parcel turns out to have left after all.
 */
async function settle(life: Life, ending: Ending): Promise<State | 'taken'> {
  await condition(() => life.undecided === 0);
  life.phase = 'settling';
  life.ending = life.cancel ? { state: 'canceled', reason: life.cancel.reason } : ending;
  if (life.ending.state === 'failed') life.lastError = life.ending.detail ?? life.ending.reason;
  log.info('order ends', { order_id: life.orderId, step: life.step, ...life.ending });
  const closing = { ending: life.ending, progress: progressOf(life) };
  if (!life.chargeTried) {
    life.state = await runLocally('close_order', { ...asReceived(life), ...closing });
    return life.state;
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

/** The order ends here, without shipping. */
class OrderEnds extends Error {
  override readonly name = 'OrderEnds';
  readonly ending: Ending;

  constructor(ending: Ending) {
    super(ending.state);
    this.ending = ending;
  }
}

const failed = (reason: FailureReason, detail?: string): OrderEnds =>
  new OrderEnds({ state: 'failed', reason, ...(detail === undefined ? {} : { detail }) });

/** Anything else is a bug: thrown on, it stops the workflow task until the code is mended, and the order with it. */
function endingFor(error: unknown): Ending {
  if (error instanceof OrderEnds) return error.ending;
  if (error instanceof OutOfTime) return { state: 'failed', reason: 'DEADLINE' };
  throw error;
}

const canceled = (reason: string): OrderEnds => new OrderEnds({ state: 'canceled', reason });

function stopIfCanceled(life: Life): void {
  if (life.cancel) throw canceled(life.cancel.reason);
}

/** A cancel doesn't wait for work under way: closed keys make it come to nothing, however late it wakes. */
function unlessCanceled<T>(life: Life, work: Promise<T>): Promise<T> {
  const cancel = condition(() => life.cancel !== null).then(() => {
    throw canceled(life.cancel?.reason ?? '');
  });
  return Promise.race([work, cancel]);
}

function enter(life: Life, step: Step): void {
  life.step = step;
  log.info('step', { order_id: life.orderId, step, state: life.state });
}

function asReceived({ orderId, order }: Life) {
  const { workflowId, firstExecutionRunId } = workflowInfo();
  return { order_id: orderId, order, run: { workflow_id: workflowId, run_id: firstExecutionRunId } };
}
