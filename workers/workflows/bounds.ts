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

/** More than an order's history has unless it is flooded with signals, or tried again for hours. */
const SHORT_HISTORY_EVENTS = 200;
const SHORT_HISTORY_BYTES = 1_000_000;

/** Bytes: more than the JSON of any valid order has, of an address that versions up to 0.3 accepted, and of a valid new address. */
export const MAX_ORDER_BYTES = 384_000;
export const MAX_ADDRESS_BYTES = 48_000;
/** All the commands that wait are handed to the run that continues this one, in an argument of at most 2 MB. */
export const MAX_NEW_ADDRESS_BYTES = 4_000;

/** Whether the run must continue as new. */
export function historyIsFull(): boolean {
  const { historyLength, historySize } = workflowInfo();
  const hasManyEvents = historyLength >= MAX_HISTORY_EVENTS && historyLength % MAX_HISTORY_EVENTS < EVENTS_TO_TRY;
  return (hasManyEvents || historySize >= MAX_HISTORY_BYTES) && bounded();
}

/**
 * Whether an activity may run inside a workflow task. A flood of signals has the server end the task, and the worker begins it anew
 * with a longer history; without local activities it is over before the server can end it again.
 */
export function mayRunLocally(): boolean {
  const { historyLength, historySize } = workflowInfo();
  return (historyLength <= SHORT_HISTORY_EVENTS && historySize <= SHORT_HISTORY_BYTES) || !boundsLocalActivities();
}

/** Whether the bounds on local activities hold, which versions up to 0.4 did not have. As with `bounded`, ask only when one is reached. */
export const boundsLocalActivities = (): boolean => patched('no local activities in a flood');

/**
 * Whether the bounds of this version hold. Versions up to 0.3 had none, so it is false while their history is replayed. Ask only
 * when a bound is reached: the first call that returns true is recorded in the history.
 */
export const bounded = (): boolean => patched('bounds');

/** More levels than any valid argument has. Thousands of them, which a caller may send, could not be passed on to an activity. */
const MAX_LEVELS = 8;

/** The value, or undefined when its JSON has more than `maxBytes` bytes or it is nested too deeply. */
export const within = <T>(maxBytes: number, value: T): T | undefined =>
  hasMoreLevels(value, MAX_LEVELS) || bytesOf(JSON.stringify(value) ?? '') > maxBytes ? undefined : value;

const bytesOf = (text: string): number => new TextEncoder().encode(text).length;

const hasMoreLevels = (value: unknown, levels: number): boolean =>
  typeof value === 'object' &&
  value !== null &&
  (levels === 0 || Object.values(value).some((inner) => hasMoreLevels(inner, levels - 1)));
