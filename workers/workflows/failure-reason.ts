import { ApplicationFailure } from '@temporalio/common';

/** Why a shipping attempt failed: the carrier's own words if it has said any. Versions up to 0.5 put them into the message. */
export function reasonOf(error: unknown): string {
  const words = error instanceof ApplicationFailure ? error.details?.[0] : undefined;
  if (typeof words === 'string') return words;
  return error instanceof Error ? error.message : String(error);
}
