/** What keeps a run small enough to be replayed within one workflow task, whatever callers send. */
import { patched, workflowInfo } from '@temporalio/workflow';

/** Replaying an event costs about 0.8 ms of CPU. */
const MAX_HISTORY_EVENTS = 1_000;
const MAX_HISTORY_BYTES = 4_000_000;
/**
 * Temporal rejects a continuation when a signal arrives during its task, and has the whole run replayed. So during a flood of signals
 * a run only tries to continue while it has this many events more than a multiple of MAX_HISTORY_EVENTS, and decides commands meanwhile.
 */
const EVENTS_TO_TRY = 200;

/** Longer than the JSON of any valid order, and of any valid address. */
export const MAX_ORDER_LENGTH = 128_000;
export const MAX_ADDRESS_LENGTH = 16_000;

/** Whether the run must continue as new. */
export function historyIsFull(): boolean {
  const { historyLength, historySize } = workflowInfo();
  const hasManyEvents = historyLength >= MAX_HISTORY_EVENTS && historyLength % MAX_HISTORY_EVENTS < EVENTS_TO_TRY;
  return (hasManyEvents || historySize >= MAX_HISTORY_BYTES) && bounded();
}

/** The patch by which a history shows that the bounds of this version held. */
export const BOUNDS = 'bounds';

/**
 * Whether the bounds of this version hold. Versions up to 0.3 had none, so it is false while their history is replayed. Ask only
 * when a bound is reached: the first call that returns true is recorded in the history.
 */
export const bounded = (): boolean => patched(BOUNDS);

/** More levels than any valid argument has. Thousands of them, which a caller may send, could not be passed on to an activity. */
const MAX_LEVELS = 8;

/** The value, or undefined when its JSON has more than `maxLength` characters or it is nested too deeply. */
export const within = <T>(maxLength: number, value: T): T | undefined =>
  hasMoreLevels(value, MAX_LEVELS) || (JSON.stringify(value)?.length ?? 0) > maxLength ? undefined : value;

const hasMoreLevels = (value: unknown, levels: number): boolean =>
  typeof value === 'object' &&
  value !== null &&
  (levels === 0 || Object.values(value).some((inner) => hasMoreLevels(inner, levels - 1)));
