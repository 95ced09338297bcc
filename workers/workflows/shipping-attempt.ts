/** One shipping attempt: prepares the parcel and hands it to the carrier. A cancel meanwhile is decided in commands.ts. */
import {
  ApplicationFailure,
  CancellationScope,
  getExternalWorkflowHandle,
  isCancellation,
  log,
  workflowInfo,
} from '@temporalio/workflow';
import { RECORDED_ID_PATTERN } from '@trellis/contracts/id';
import { type Policy, policyOf } from '@trellis/contracts/policy';
import {
  DISPATCH_FAILED_SIGNAL,
  type DispatchFailure,
  type ShippingInput,
  type ShippingResult,
} from '@trellis/contracts/temporal';
import type { DispatchCarrierInput } from '../activities/dispatch-carrier.ts';
import { MAX_ADDRESS_BYTES, within } from './bounds.ts';
import { reasonOf } from './failure-reason.ts';
import { DeadlineExceeded, runLocally, runQuickly } from './run-activity.ts';

const MAX_WORKFLOW_ID_BYTES = 1_000;
/** An order makes far fewer; the column could hold more. */
const MAX_ATTEMPT = 1_000_000;
/** Longer than any policy allows. Not a policy's own number: an order keeps the numbers that it was received with. */
const MAX_SHIPMENT_MS = 30 * 24 * 3_600_000;
/** Well inside a workflow task. */
const MAX_CALL_IN_TASK_MS = 1_000;

/** Returns the parcel's tracking number. Reports a failure to its parent, then fails with a DispatchFailure as the failure's type. */
export async function ShippingWorkflow(input: ShippingInput): Promise<ShippingResult> {
  try {
    return await ship(readInput(input), callTimeOf(input));
  } catch (error) {
    const failure = failureOf(error);
    await CancellationScope.nonCancellable(() => report(input?.parent_workflow_id, reasonOf(failure)));
    throw failure;
  }
}

async function ship(
  shipment: DispatchCarrierInput,
  callTime: Pick<Policy, 'call_in_task_ms'>,
): Promise<ShippingResult> {
  const run_started_at = workflowInfo().startTime.getTime();
  const prepared = await runLocally('prepare_package', { ...shipment, run_started_at });
  if (prepared === 'closed') throw dispatchFailure('CARRIER_CLOSED', 'the order must not be shipped');
  // In histories of versions up to 0.3 the activity has returned no address.
  const address = prepared.address ?? shipment.address;
  const dispatched = await runQuickly('dispatch_carrier', { ...shipment, address }, callTime);
  if (dispatched.outcome === 'refused')
    throw dispatchFailure('CARRIER_REFUSED', 'the carrier refused the parcel', dispatched.reason);
  if (dispatched.outcome === 'closed')
    throw dispatchFailure('CARRIER_CLOSED', 'the order must not be shipped any more');
  return { tracking: dispatched.tracking };
}

/** Reads the argument, which may come from any caller. Without a valid deadline the shipment gets the policy's whole budget. */
function readInput(input: ShippingInput): DispatchCarrierInput {
  const { order, attempt, deadline_at } = input ?? {};
  const address = within(MAX_ADDRESS_BYTES, order?.address);
  if (
    typeof order?.order_id !== 'string' ||
    !RECORDED_ID_PATTERN.test(order.order_id) ||
    typeof address !== 'object' ||
    address === null
  )
    throw dispatchFailure('UNKNOWN', 'the argument is not a shipment');
  const isMoment = typeof deadline_at === 'number' && Number.isFinite(deadline_at);
  return {
    order_id: order.order_id,
    address,
    attempt: Number.isInteger(attempt) ? Math.min(Math.max(1, Number(attempt)), MAX_ATTEMPT) : 1,
    deadline_at: isMoment
      ? Math.min(Math.max(0, deadline_at), Date.now() + MAX_SHIPMENT_MS)
      : Date.now() + policyOf(order.policy).budget_ms,
  };
}

/** Absent unless it is a number that a policy may have. */
const callTimeOf = ({ call_in_task_ms: ms }: ShippingInput): Pick<Policy, 'call_in_task_ms'> =>
  typeof ms === 'number' && ms >= 1 && ms <= MAX_CALL_IN_TASK_MS ? { call_in_task_ms: ms } : {};

/** `words`: the carrier's own, which may quote the address. Details are encrypted where payloads are, messages are not. */
function dispatchFailure(type: DispatchFailure, message: string, words?: string): ApplicationFailure {
  return ApplicationFailure.create({ type, message, nonRetryable: true, details: words === undefined ? [] : [words] });
}

/** The failure that the workflow ends with. Any other exception is a bug: it fails the workflow task until the code is fixed. */
function failureOf(error: unknown): ApplicationFailure {
  if (error instanceof ApplicationFailure) return error;
  if (error instanceof DeadlineExceeded)
    return dispatchFailure('DEADLINE', 'the carrier did not take the parcel in time');
  if (isCancellation(error)) return dispatchFailure('UNKNOWN', 'the shipment was canceled from outside');
  throw error;
}

/** Signals the parent, which may have ended or may not exist: then only a log line is written. */
async function report(parentWorkflowId: unknown, reason: string): Promise<void> {
  if (typeof parentWorkflowId !== 'string' || parentWorkflowId === '') return;
  // A lone surrogate is valid JSON but not valid protobuf text: in the command's workflow id it would crash the worker.
  if (!parentWorkflowId.isWellFormed()) return;
  // Temporal fails the workflow task, again and again, for an id that is longer than its limit.
  if (new TextEncoder().encode(parentWorkflowId).length > MAX_WORKFLOW_ID_BYTES) return;
  try {
    await getExternalWorkflowHandle(parentWorkflowId).signal(DISPATCH_FAILED_SIGNAL, reason);
  } catch {
    log.warn('the failure could not be reported to the parent workflow', {
      parent_workflow_id: parentWorkflowId,
      workflow_id: workflowInfo().workflowId,
    });
  }
}
