/** The order's side of shipping: one child workflow after the other until the carrier has the parcel. The child is shipping.ts. */
import {
  ApplicationFailure,
  ChildWorkflowFailure,
  condition,
  executeChild,
  log,
  TimeoutFailure,
  workflowInfo,
} from '@temporalio/workflow';
import {
  type DispatchFailure,
  SHIPPING_QUEUE,
  SHIPPING_WORKFLOW,
  type ShippingInput,
  type ShippingResult,
  shippingWorkflowId,
  WORKFLOW_TASK_TIMEOUT_MS,
} from '@trellis/contracts/temporal';
import { failed, OrderEnds, stopIfCanceled, unlessCanceled } from './endings.ts';
import { type Life, until } from './life.ts';

/** Tries until the carrier has the parcel, pausing between tries; a new address ends the pause. */
export async function shipInTries(life: Life): Promise<void> {
  const { ship_min_tries, ship_backoff_ms, ship_try_ms } = life.policy;
  for (;;) {
    const refusal = await until(
      () => life.undecided === 0,
      () => tryToShip(life),
    );
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
  stopIfCanceled(life);
  life.shipAttempts += 1;
  life.parcelMayBeTaken = true;
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
    const failure = noteFailedTry(life, error);
    // Only the carrier's own word is certain: a try that died may have handed the parcel over before.
    if (failure === 'CARRIER_REFUSED' || failure === 'CARRIER_CLOSED') life.parcelMayBeTaken = false;
    return failure;
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
  const reason = cause instanceof TimeoutFailure ? 'no shipping worker finished it in time' : messageOf(cause);
  life.lastError = reason;
  life.dispatchFailedReason = reason;
  log.warn('try to ship failed', { order_id: life.orderId, step: life.step, attempt: life.shipAttempts, reason });
  return cause instanceof ApplicationFailure ? (cause.type as DispatchFailure) : 'UNKNOWN';
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
