/** How many calls a caller may make, so that none takes the API from the others. */

/** Calls in a period, of each caller at one process, or on the edge at one location (wrangler.toml). */
export const CALLS = 2_000;
export const PERIOD_S = 10;

/** Counts a call and returns whether the caller may make it. `caller`: what tells it from others. */
export type CountCall = (caller: string) => Promise<boolean>;
