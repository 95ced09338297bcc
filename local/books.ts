import { openDatabase } from '@trellis/drizzle/client';
import { audit } from '@trellis/drizzle/sandbox/audit';

/** What is wrong with the money of the database at `url`, a line each; nothing when both sides' books agree. */
export async function violations(url: string): Promise<string[]> {
  const db = openDatabase(url);
  try {
    return (await audit(db)).map(({ order_id, rule }) => `${order_id}: ${rule}`);
  } finally {
    await db.close();
  }
}

/** Says whether both sides' books agree, or what is wrong with them, which ends the program with 1. */
export async function reportBooks(url: string, say: (line: string) => void): Promise<void> {
  const broken = await violations(url);
  say(broken.length === 0 ? 'both sides’ books agree' : broken.join('\n'));
  if (broken.length > 0) process.exitCode = 1;
}
