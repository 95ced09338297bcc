import { openDatabase } from '@trellis/drizzle/client';
import { audit } from '@trellis/drizzle/sandbox/audit';
import { print } from './options.ts';

/** The violations of the money invariant in the database at `url`, a line each. */
export async function moneyViolations(url: string): Promise<string[]> {
  const db = openDatabase(url);
  try {
    return (await audit(db)).map(({ order_id, rule }) => `${order_id}: ${rule}`);
  } finally {
    await db.close();
  }
}

/** Prints the violations, or that there are none; sets the exit code to 1 if there are any. */
export function printAudit(violations: string[]): void {
  print(violations.length === 0 ? 'audit: every payment and every parcel is accounted for' : violations.join('\n'));
  if (violations.length > 0) process.exitCode = 1;
}
