import { openDatabase } from '@trellis/drizzle/client';
import { audit } from '@trellis/drizzle/sandbox/audit';
import { print } from './options.ts';

/** The orders of the database at `url` that violate the money invariant, a line each. */
export async function moneyViolations(url: string): Promise<string[]> {
  const db = openDatabase(url);
  try {
    return (await audit(db)).map(({ order_id, rule }) => `${order_id}: ${rule}`);
  } finally {
    await db.close();
  }
}

/** Prints the violations, or that there are none; with any, the process will exit with 1. */
export function printAudit(violations: string[]): void {
  print(violations.length === 0 ? 'audit: every payment and every parcel is accounted for' : violations.join('\n'));
  if (violations.length > 0) process.exitCode = 1;
}
