/** Where an order is right now. */
import * as v from 'valibot';
import { STATES, STEPS } from './lifecycle.ts';

const nullableText = v.nullable(v.string());

/** What the workflow's `status` query answers. */
export const WorkflowStatus = v.object({
  order_id: v.string(),
  state: v.picklist(STATES),
  step: v.picklist(STEPS),
  approved: v.boolean(),
  canceled: v.boolean(),
  cancel_reason: nullableText,
  child_attempts: v.number(),
  last_error: nullableText,
  dispatch_failed_reason: nullableText,
  reason: nullableText,
});
export type WorkflowStatus = v.InferOutput<typeof WorkflowStatus>;

/** A failed attempt: `step` is the activity's name, `attempt` counts from 1 each time Temporal schedules it. */
export const FailedAttempt = v.object({
  step: v.string(),
  attempt: v.number(),
  error: v.string(),
  ts: v.string(),
});
export type FailedAttempt = v.InferOutput<typeof FailedAttempt>;

/**
 * The API's answer: the workflow's own word when it gave one in time, else the database's, else that Temporal
 * accepted the order. `activity` and `attempt` tell what is being tried now and for the how-manieth time.
 */
export const OrderStatus = v.object({
  ...WorkflowStatus.entries,
  source: v.picklist(['workflow', 'sql', 'temporal']),
  as_of: v.string(),
  activity: nullableText,
  attempt: v.number(),
  retries: v.number(),
  recent_errors: v.array(FailedAttempt),
});
export type OrderStatus = v.InferOutput<typeof OrderStatus>;
