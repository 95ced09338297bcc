/** What keeps a run small enough to be replayed within one workflow task, whatever callers send. */
import { patched, workflowInfo } from '@temporalio/workflow';

/** Replaying an event costs about 0.8 ms of CPU. */
const MAX_HISTORY_EVENTS = 1_000;
const MAX_HISTORY_BYTES = 4_000_000;

/** Longer than the JSON of any valid order, and of any valid address. */
export const MAX_ORDER_LENGTH = 128_000;
export const MAX_ADDRESS_LENGTH = 16_000;

/** Whether the run must continue as new. */
export function historyIsFull(): boolean {
  const { historyLength, historySize } = workflowInfo();
  return (historyLength >= MAX_HISTORY_EVENTS || historySize >= MAX_HISTORY_BYTES) && bounded();
}

/**
 * Whether the bounds of this version hold. Versions up to 0.3 had none, so it is false while their history is replayed. Ask only
 * when a bound is reached: the first call that returns true is recorded in the history.
 */
export const bounded = (): boolean => patched('bounds');

/** The value, or undefined when its JSON has more than `maxLength` characters or is too deeply nested to be written. */
export function within<T>(maxLength: number, value: T): T | undefined {
  try {
    return (JSON.stringify(value)?.length ?? 0) > maxLength ? undefined : value;
  } catch {
    return undefined;
  }
}
