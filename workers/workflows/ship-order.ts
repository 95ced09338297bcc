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
import { failed, OrderEnds, stopIfCanceled, unlessCanceled } from './ending.ts';
import { type RunningOrder, whenReady } from './running-order.ts';

/** Tries until the carrier has the parcel, pausing between tries; a new address ends the pause. */
export async function shipOrder(running: RunningOrder): Promise<void> {
  const { min_shipping_attempts, shipping_backoff_ms, shipping_attempt_ms } = running.policy;
  for (;;) {
    const refusal = await whenReady(
      () => running.undecided === 0,
      () => attemptShipping(running),
    );
    if (!refusal) return;
    const timeLeft = running.deadline - Date.now();
    if (
      refusal === 'CARRIER_CLOSED' ||
      (running.shippingAttempts >= min_shipping_attempts && timeLeft < shipping_backoff_ms + shipping_attempt_ms)
    )
      throw failed(
        refusal === 'CARRIER_REFUSED' ? 'CARRIER_REFUSED' : 'DEADLINE',
        running.dispatchFailedReason ?? undefined,
      );
    const { addressChanges } = running;
    await condition(() => running.cancel !== null || running.addressChanges !== addressChanges, shipping_backoff_ms);
  }
}

/** One child workflow, one try. Answers why it failed, nothing when the parcel left. */
async function attemptShipping(running: RunningOrder): Promise<DispatchFailure | undefined> {
  stopIfCanceled(running);
  running.shippingAttempts += 1;
  running.parcelMayBeTaken = true;
  const time = attemptTime(running);
  const input: ShippingInput = {
    order: running.order,
    parent_workflow_id: workflowInfo().workflowId,
    attempt: running.shippingAttempts,
    deadline_at: Date.now() + time,
  };
  const child = executeChild<(input: ShippingInput) => Promise<ShippingResult>>(SHIPPING_WORKFLOW, {
    workflowId: shippingWorkflowId(running.orderId, running.shippingAttempts),
    taskQueue: SHIPPING_QUEUE,
    args: [input],
    workflowIdReusePolicy: 'REJECT_DUPLICATE',
    workflowTaskTimeout: WORKFLOW_TASK_TIMEOUT_MS,
    // Wakes us when no shipping worker lives; a living one reports a little earlier by itself.
    workflowRunTimeout: time + 500,
  });
  try {
    await unlessCanceled(running, child);
    running.phase = 'taken';
    return undefined;
  } catch (error) {
    if (error instanceof OrderEnds) throw error;
    const failure = noteFailedAttempt(running, error);
    // Only the carrier's own word is certain: a try that died may have handed the parcel over before.
    if (failure === 'CARRIER_REFUSED' || failure === 'CARRIER_CLOSED') running.parcelMayBeTaken = false;
    return failure;
  }
}

/** What is left of the budget, less what the tries still owed to the order need. */
function attemptTime({ deadline, policy, shippingAttempts }: RunningOrder): number {
  const owed = Math.max(0, policy.min_shipping_attempts - shippingAttempts);
  const left = deadline - Date.now() - owed * (policy.shipping_backoff_ms + policy.shipping_attempt_ms);
  return Math.max(policy.shipping_attempt_ms, left);
}

function noteFailedAttempt(running: RunningOrder, error: unknown): DispatchFailure {
  const cause = error instanceof ChildWorkflowFailure ? error.cause : error;
  const reason = cause instanceof TimeoutFailure ? 'no shipping worker finished it in time' : messageOf(cause);
  running.lastError = reason;
  running.dispatchFailedReason = reason;
  log.warn('try to ship failed', {
    order_id: running.orderId,
    step: running.step,
    attempt: running.shippingAttempts,
    reason,
  });
  return cause instanceof ApplicationFailure ? (cause.type as DispatchFailure) : 'UNKNOWN';
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
