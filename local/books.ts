import { audit } from '@trellis/drizzle/audit';
import { openDatabase } from '@trellis/drizzle/client';

/** What is wrong with the money of the database at `url`, a line each; nothing when both sides' books agree. */
export async function violations(url: string): Promise<string[]> {
  const db = openDatabase(url);
  try {
    return (await audit(db)).map(({ order_id, rule }) => `${order_id}: ${rule}`);
  } finally {
    await db.close();
  }
}
