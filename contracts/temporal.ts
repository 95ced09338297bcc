/** The names that a Temporal caller in any language uses. Plain data, safe to import from workflow code. */
import type { Actor } from './actor.ts';
import { RECORDED_ID_PATTERN } from './id.ts';
import type { OrderInput } from './order.ts';
import type { PolicyName } from './policy.ts';

export const ORDER_WORKFLOW = 'OrderWorkflow';
export const SHIPPING_WORKFLOW = 'ShippingWorkflow';
export const SETTLE_WORKFLOW = 'SettleWorkflow';
export const ERASE_WORKFLOW = 'EraseWorkflow';

export const ORDERS_QUEUE = 'orders-tq';
export const SHIPPING_QUEUE = 'shipping-tq';

export const STATUS_QUERY = 'status';
export const DISPATCH_FAILED_SIGNAL = 'dispatch_failed';

/**
 * Temporal schedules a lost workflow task again after this time. It must be well inside the policy's budget, and long enough to
 * replay the longest history: a task that takes longer is repeated for ever.
 */
export const WORKFLOW_TASK_TIMEOUT_MS = {
  exercise: 3_000,
  production: 20_000,
} as const satisfies Record<PolicyName, number>;

/** The memo key that holds the hash of the request that started an order. */
export const REQUEST_HASH_MEMO = 'request_hash';

/** The encoding of an encrypted payload. */
export const ENCRYPTED = 'binary/encrypted';
/** The metadata of an encrypted payload that names its key: the order's id. */
export const ENCRYPTION_KEY_ID = 'encryption-key-id';

export const orderWorkflowId = (orderId: string): string => `order-${orderId}`;
export const settleWorkflowId = (orderId: string): string => `settle-${orderId}`;
export const eraseWorkflowId = (orderId: string): string => `erase-${orderId}`;
/** The order id in an order workflow's id; undefined for an id of another form. */
export const orderIdOf = (workflowId: string): string | undefined => /^order-(.+)$/.exec(workflowId)?.[1];
export const shippingWorkflowId = (orderId: string, attempt: number): string => `ship-${orderId}-${attempt}`;

/**
 * The order whose payloads a workflow has, by the workflow's id; undefined for an id of another form. An EraseWorkflow has none of them, and
 * outlives the key that they are encrypted with.
 */
export function orderOfWorkflow(workflowId: string): string | undefined {
  const [, ordered, shipped] = /^(?:order|settle)-(.+)$|^ship-(.+)-\d+$/.exec(workflowId) ?? [];
  const orderId = ordered ?? shipped;
  return orderId !== undefined && RECORDED_ID_PATTERN.test(orderId) ? orderId : undefined;
}

/** A run of an order's workflow. The first run that writes the order's row owns the order. */
export interface Run {
  workflow_id: string;
  run_id: string;
}

/** The one argument of ShippingWorkflow. `attempt`: the shipping attempt, from 1. `deadline_at`: epoch milliseconds. `call_in_task_ms`: as in Policy. */
export interface ShippingInput {
  order: OrderInput;
  parent_workflow_id: string;
  attempt?: number;
  deadline_at?: number;
  call_in_task_ms?: number;
}

/** The one argument of SettleWorkflow. `cancel_reason`: the reason of the cancel that the run accepted before it was ended from outside, if any. */
export interface SettleInput {
  order_id: string;
  cancel_reason?: string | null;
}

/** The one argument of EraseWorkflow. `erased_by`: who asked for it; unknown when absent. */
export interface EraseInput {
  order_id: string;
  erased_by?: Actor;
}

/** The result of ShippingWorkflow: the carrier has taken the parcel. */
export interface ShippingResult {
  tracking: string;
}

/** Why a shipping attempt failed: the type of the child workflow's application failure. */
export type DispatchFailure = 'CARRIER_REFUSED' | 'CARRIER_CLOSED' | 'DEADLINE' | 'UNKNOWN';
