/** The order's side of shipping: shipping attempts, each a child workflow (shipping-attempt.ts), until the carrier has the parcel. */
import {
  ApplicationFailure,
  ChildWorkflowFailure,
  condition,
  executeChild,
  log,
  TimeoutFailure,
  workflowInfo,
} from '@temporalio/workflow';
import { policyNameOf } from '@trellis/contracts/policy';
import {
  type DispatchFailure,
  SHIPPING_QUEUE,
  SHIPPING_WORKFLOW,
  type ShippingInput,
  type ShippingResult,
  shippingWorkflowId,
  WORKFLOW_TASK_TIMEOUT_MS,
} from '@trellis/contracts/temporal';
import { EndedUnshipped, failed, orCanceled, stopIfCanceled } from './ending.ts';
import { reasonOf } from './failure-reason.ts';
import { parcelTaken, type RunningOrder, whenReady } from './running-order.ts';

/** From the child's deadline to its run timeout, which expires only when no shipping worker runs: a running worker fails the child before. */
const CHILD_TIMEOUT_MARGIN_MS = 500;

/** Repeats shipping attempts, with a pause between them that a new address ends. Throws when no further attempt may be made. */
export async function shipOrder(order: RunningOrder): Promise<void> {
  const { shipping_backoff_ms } = order.policy;
  // The run before was continued as new during an attempt, which its child workflow did not survive.
  if (order.child_attempts > 0 && order.nextAttemptAt === null) stopUnlessTimeIsLeft(order, 'UNKNOWN');
  for (;;) {
    const pauseEnds = order.nextAttemptAt;
    if (pauseEnds !== null)
      await condition(
        () => order.cancel !== null || order.nextAttemptAt !== pauseEnds,
        Math.max(1, pauseEnds - Date.now()),
      );
    const failure = await whenReady(
      () => order.pendingDecisions === 0,
      () => attemptShipping(order),
    );
    if (!failure) return;
    stopUnlessTimeIsLeft(order, failure);
    order.nextAttemptAt = Date.now() + shipping_backoff_ms;
  }
}

/** Throws when no further attempt may be made after this failure. */
function stopUnlessTimeIsLeft(order: RunningOrder, failure: DispatchFailure): void {
  const { min_shipping_attempts, shipping_backoff_ms, shipping_attempt_ms } = order.policy;
  const timeLeft = order.deadline - Date.now();
  if (
    failure === 'CARRIER_CLOSED' ||
    (order.child_attempts >= min_shipping_attempts && timeLeft < shipping_backoff_ms + shipping_attempt_ms)
  )
    throw failed(
      failure === 'CARRIER_REFUSED' ? 'CARRIER_REFUSED' : 'DEADLINE',
      order.dispatch_failed_reason ?? undefined,
    );
}

/** Runs one child workflow. Returns why it failed; undefined when the carrier has the parcel. */
async function attemptShipping(order: RunningOrder): Promise<DispatchFailure | undefined> {
  stopIfCanceled(order);
  order.child_attempts += 1;
  order.nextAttemptAt = null;
  order.carrierMayHaveParcel = true;
  const time = attemptTime(order);
  const { call_in_task_ms } = order.policy;
  const input: ShippingInput = {
    order: order.input,
    parent_workflow_id: workflowInfo().workflowId,
    attempt: order.child_attempts,
    deadline_at: Date.now() + time,
    ...(call_in_task_ms === undefined ? {} : { call_in_task_ms }),
  };
  const child = executeChild<(input: ShippingInput) => Promise<ShippingResult>>(SHIPPING_WORKFLOW, {
    workflowId: shippingWorkflowId(order.order_id, order.child_attempts),
    taskQueue: SHIPPING_QUEUE,
    args: [input],
    workflowIdReusePolicy: 'REJECT_DUPLICATE',
    workflowTaskTimeout: WORKFLOW_TASK_TIMEOUT_MS[policyNameOf(order.input.policy)],
    workflowRunTimeout: time + CHILD_TIMEOUT_MARGIN_MS,
  });
  try {
    await orCanceled(order, child);
    parcelTaken(order);
    return undefined;
  } catch (error) {
    if (error instanceof EndedUnshipped) throw error;
    const failure = noteFailedAttempt(order, error);
    // Only the carrier's answer is certain: an attempt that ended otherwise may have handed the parcel over before.
    if (failure === 'CARRIER_REFUSED' || failure === 'CARRIER_CLOSED') order.carrierMayHaveParcel = false;
    return failure;
  }
}

/** The time left, less what the rest of the guaranteed attempts need. */
function attemptTime({ deadline, policy, child_attempts }: RunningOrder): number {
  const furtherAttempts = Math.max(0, policy.min_shipping_attempts - child_attempts);
  const reserved = furtherAttempts * (policy.shipping_backoff_ms + policy.shipping_attempt_ms);
  return Math.max(policy.shipping_attempt_ms, deadline - Date.now() - reserved);
}

function noteFailedAttempt(order: RunningOrder, error: unknown): DispatchFailure {
  const cause = error instanceof ChildWorkflowFailure ? error.cause : error;
  const reason = cause instanceof TimeoutFailure ? 'no shipping worker finished it in time' : reasonOf(cause);
  order.last_error = reason;
  order.dispatch_failed_reason = reason;
  const failure = cause instanceof ApplicationFailure ? (cause.type as DispatchFailure) : 'UNKNOWN';
  // Without the carrier's words, which may quote the address.
  log.warn('shipping attempt failed', {
    order_id: order.order_id,
    step: order.step,
    attempt: order.child_attempts,
    failure,
  });
  return failure;
}
