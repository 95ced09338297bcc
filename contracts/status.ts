/** Where an order is right now. */
import * as v from 'valibot';
import { STATES, STEPS } from './lifecycle.ts';
import { Timestamp } from './timestamp.ts';

const nullableText = v.nullable(v.string());
const Count = v.pipe(v.number(), v.integer(), v.minValue(0));

/** What the workflow's `status` query answers. */
export const WorkflowStatus = v.object({
  order_id: v.string(),
  state: v.picklist(STATES),
  step: v.picklist(STEPS),
  approved: v.boolean(),
  canceled: v.boolean(),
  cancel_reason: nullableText,
  child_attempts: Count,
  last_error: nullableText,
  dispatch_failed_reason: nullableText,
  reason: nullableText,
});
export type WorkflowStatus = v.InferOutput<typeof WorkflowStatus>;

/** The part of a status that only the workflow knows until the order ends, when it is written to the order's row. */
export type Progress = Pick<
  WorkflowStatus,
  'step' | 'approved' | 'child_attempts' | 'last_error' | 'dispatch_failed_reason'
>;

/** A failed attempt: `step` is the activity's name, `attempt` counts from 1 each time Temporal schedules it. */
export const FailedAttempt = v.object({
  step: v.string(),
  attempt: Count,
  error: v.string(),
  ts: Timestamp,
});
export type FailedAttempt = v.InferOutput<typeof FailedAttempt>;

/**
 * The API's answer: the workflow's own word when it gave one in time, else the database's, else that Temporal
 * accepted the order. `activity` and `attempt` tell what is being tried now and for the how-manieth time.
 */
export const OrderStatus = v.object({
  ...WorkflowStatus.entries,
  source: v.picklist(['workflow', 'sql', 'temporal']),
  as_of: Timestamp,
  activity: nullableText,
  attempt: Count,
  retries: Count,
  recent_errors: v.array(FailedAttempt),
});
export type OrderStatus = v.InferOutput<typeof OrderStatus>;
