/** How many calls a caller may make, so that none takes the API from the others. */
import { OrderError } from '@trellis/contracts/error';
import type { Caller } from './caller.ts';

/** Calls in a period, of each caller at one process, or on the edge at one location (wrangler.toml). */
export const CALLS = 2_000;
export const PERIOD_S = 10;

/** Counts a call and returns whether the caller may make it. `caller`: what tells it from others. */
export type CountCall = (caller: string) => Promise<boolean>;

/** Counts a call. Throws BUSY when its caller has made too many. */
export async function checkRate({ actor }: Caller, countCall: CountCall): Promise<void> {
  if (!(await countCall(`${actor.via} ${actor.sub}`)))
    throw new OrderError('BUSY', `more than ${CALLS} calls in ${PERIOD_S} s`, { retry_after: PERIOD_S });
}
