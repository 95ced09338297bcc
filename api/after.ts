/** Resolves after `ms` milliseconds. For every runtime: an edge has no `node:timers`. */
export const after = (ms: number): Promise<undefined> =>
  new Promise((resolve) => setTimeout(() => resolve(undefined), ms));
