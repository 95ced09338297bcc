/** The Temporal activities, by the names that histories record. Plain data, safe to import from workflow code. */
import type { Step } from './states-and-steps.ts';

interface ActivityEntry {
  /** The order step that the activity performs; null when it can run at any step. */
  readonly step: Step | null;
  /** Whether each attempt awaits flaky_call first, where fault injection is on. */
  readonly flaky: boolean;
}

/** The one list of activities: the worker implements exactly these, and the API derives an order's step from them. */
export const ACTIVITIES = {
  receive_order: { step: 'receive_order', flaky: true },
  validate_order: { step: 'validate_order', flaky: true },
  charge_payment: { step: 'charge_payment', flaky: true },
  prepare_package: { step: 'shipping_child', flaky: true },
  dispatch_carrier: { step: 'shipping_child', flaky: true },
  mark_shipped: { step: 'mark_shipped', flaky: true },
  refund_payment: { step: null, flaky: true },
  close_order: { step: null, flaky: false },
  close_parcel: { step: null, flaky: false },
  update_address: { step: null, flaky: false },
  refuse_command: { step: null, flaky: false },
  load_abandoned: { step: null, flaky: false },
} as const satisfies Record<string, ActivityEntry>;

/** The type of the failure of a local activity that the server's time for its workflow task did not suffice for. */
export const TASK_ENDED = 'TASK_ENDED';

export type ActivityName = keyof typeof ACTIVITIES;
