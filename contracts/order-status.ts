/** The current status of an order. */
import * as v from 'valibot';
import { FAILURE_REASONS, STATES, STEPS } from './states-and-steps.ts';
import { Timestamp } from './timestamp.ts';

export const State = v.pipe(
  v.picklist(STATES),
  v.description('In the sequence in which an order passes through them; the last four are terminal.'),
);
export const FailureReason = v.pipe(v.picklist(FAILURE_REASONS), v.description('Why an order ended `failed`.'));

const Count = v.pipe(v.number(), v.integer(), v.minValue(0));
const count = (description: string) => v.pipe(Count, v.description(description));
const flag = (description: string) => v.pipe(v.boolean(), v.description(description));
const nullableText = (description: string) => v.pipe(v.nullable(v.string()), v.description(description));

/** The result of the workflow's `status` query. */
export const WorkflowStatus = v.object({
  order_id: v.string(),
  state: State,
  step: v.pipe(
    v.picklist(STEPS),
    v.description('Position in the workflow. It stays where the order stopped; `done` only when shipped.'),
  ),
  approved: flag('Whether an approval has been accepted.'),
  canceled: flag('Whether a cancellation has been accepted; the order then ends `canceled`.'),
  cancel_reason: nullableText('Of the first accepted cancellation.'),
  child_attempts: count('Shipping attempts so far, each a ShippingWorkflow.'),
  last_error: nullableText('Message of the last failure: of a failed attempt, of a shipping attempt or of the order.'),
  dispatch_failed_reason: nullableText('Why the last failed shipping attempt failed.'),
  reason: v.nullable(FailureReason),
});
export type WorkflowStatus = v.InferOutput<typeof WorkflowStatus>;

/** The part of a status that is only in the workflow until the order ends, when it is written to the order's row. */
export type Progress = Pick<
  WorkflowStatus,
  'step' | 'approved' | 'child_attempts' | 'last_error' | 'dispatch_failed_reason'
>;

/** A failed attempt at an activity. */
export const FailedAttempt = v.object({
  step: v.pipe(v.string(), v.description("The activity's name, such as `charge_payment`.")),
  attempt: count("The attempt's number. It counts from 1 each time Temporal schedules the activity."),
  error: v.pipe(v.string(), v.description("The error's message.")),
  ts: Timestamp,
});
export type FailedAttempt = v.InferOutput<typeof FailedAttempt>;

/** The status that the API returns: the workflow's if it answers in time, else SQL's, else that of an order that Temporal has accepted. */
export const OrderStatus = v.object({
  ...WorkflowStatus.entries,
  source: v.pipe(
    v.picklist(['workflow', 'sql', 'temporal']),
    v.description(
      'Where the status was read: the running workflow, SQL, or, for an order that no worker has recorded yet, Temporal.',
    ),
  ),
  as_of: v.pipe(Timestamp, v.description('When the status was true: now, or when its row was last updated.')),
  activity: nullableText('The activity being retried; null when none has failed in this step.'),
  attempt: count('Number of the current attempt at that activity; 1 when none has failed.'),
  retries: count('Failed attempts at that activity so far; of an order the newest 100 are kept.'),
  recent_errors: v.pipe(v.array(FailedAttempt), v.description('The last five failed attempts, newest first.')),
});
export type OrderStatus = v.InferOutput<typeof OrderStatus>;
