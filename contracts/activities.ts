/** The Temporal activities, by the names that histories record. Plain data, safe to import from workflow code. */
import type { Step } from './states-and-steps.ts';
import { ERASE_WORKFLOW, ORDER_WORKFLOW, SETTLE_WORKFLOW, SHIPPING_WORKFLOW } from './temporal.ts';

interface ActivityEntry {
  /** The order step that the activity performs; null when it can run at any step. */
  readonly step: Step | null;
  /** Whether each attempt awaits flaky_call first, where fault injection is on. */
  readonly flaky: boolean;
  /** The workflows that run it; any other is refused. */
  readonly workflows: readonly string[];
}

const ORDER = [ORDER_WORKFLOW];
const SHIPPING = [SHIPPING_WORKFLOW];
const ENDS = [ORDER_WORKFLOW, SETTLE_WORKFLOW];

/** The one list of activities: the worker implements exactly these, and the API derives an order's step from them. */
export const ACTIVITIES = {
  receive_order: { step: 'receive_order', flaky: true, workflows: ORDER },
  validate_order: { step: 'validate_order', flaky: true, workflows: ORDER },
  charge_payment: { step: 'charge_payment', flaky: true, workflows: ORDER },
  prepare_package: { step: 'shipping_child', flaky: true, workflows: SHIPPING },
  dispatch_carrier: { step: 'shipping_child', flaky: true, workflows: SHIPPING },
  mark_shipped: { step: 'mark_shipped', flaky: true, workflows: ENDS },
  refund_payment: { step: null, flaky: true, workflows: ENDS },
  close_order: { step: null, flaky: false, workflows: ENDS },
  close_parcel: { step: null, flaky: false, workflows: ORDER },
  update_address: { step: null, flaky: false, workflows: ORDER },
  refuse_command: { step: null, flaky: false, workflows: ORDER },
  load_abandoned: { step: null, flaky: false, workflows: [SETTLE_WORKFLOW] },
  erase_order: { step: null, flaky: false, workflows: [ERASE_WORKFLOW] },
} as const satisfies Record<string, ActivityEntry>;

/** The type of the failure of a local activity that outlived the timeout of its workflow task. */
export const TASK_ENDED = 'TASK_ENDED';

export type ActivityName = keyof typeof ACTIVITIES;
