import { setTimeout } from 'node:timers/promises';

/** The exercise's fault, its body exactly as given: one call in three fails, one in three hangs for five minutes. */
export async function flaky_call(random: () => number = Math.random): Promise<void> {
  const r = random();
  if (r < 0.33) throw new Error('Forced failure for testing');
  if (r < 0.67) await setTimeout(300_000);
}
