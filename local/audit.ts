/** What `npm run audit` finds, without and with `--trail`, for the demo and the trials. */
import { openDatabase } from '@trellis/drizzle/client';
import { audit } from '@trellis/drizzle/sandbox/audit';
import { brokenTrails } from '@trellis/drizzle/trail-audit';
import { print } from './options.ts';

/** The violations of the money invariant in the database at `url`, and the broken chains of events, a line each. */
export async function violationsIn(url: string): Promise<string[]> {
  const violations = await moneyViolations(url);
  const db = openDatabase(url);
  try {
    for await (const { order_id, problem } of brokenTrails(db)) violations.push(`${order_id}: ${problem}`);
  } finally {
    await db.close();
  }
  return violations;
}

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
  print(
    violations.length === 0
      ? 'audit: every payment and every parcel is accounted for, and the trail is unbroken'
      : violations.join('\n'),
  );
  if (violations.length > 0) process.exitCode = 1;
}
