/** `npm run audit`: the money invariant over the whole database, both sides' books in one query. */
import { Variables } from '@trellis/contracts/config';
import { sql } from 'drizzle-orm';
import * as v from 'valibot';
import { type Database, openDatabase } from './client.ts';
import { fromEnvironment } from './environment.ts';

export interface Violation {
  order_id: string;
  rule: string;
}

/**
 * Every order that ended without `shipped` nets to zero and has no parcel; every shipped one has exactly one charge
 * of exactly its amount and exactly one parcel; the companies hold nothing for an order we don't know; and our
 * payments say what the company's book says. Orders still under way are not judged. Empty when it all holds.
 */
export function audit(db: Database): Promise<Violation[]> {
  return db.read(async (session) => {
    const [rows] = await session.execute(sql`
      WITH books AS (
        SELECT o.id, o.state, o.amount, o.currency,
          (SELECT COUNT(*) FROM sandbox_charges c WHERE c.order_id = o.id AND c.status = 'charged') AS charges,
          (SELECT COUNT(*) FROM sandbox_charges c WHERE c.order_id = o.id AND c.status = 'charged'
             AND c.amount = o.amount AND c.currency = o.currency) AS exact_charges,
          (SELECT COUNT(*) FROM payments p WHERE p.order_id = o.id AND p.status = 'charged'
             AND p.amount = o.amount AND p.currency = o.currency) AS our_charges,
          (SELECT COUNT(*) FROM payments p WHERE p.order_id = o.id AND p.status IN ('charged', 'pending')) AS unsettled,
          (SELECT COUNT(*) FROM sandbox_parcels s WHERE s.order_id = o.id AND s.status = 'taken') AS parcels,
          (SELECT COUNT(*) FROM shipments s WHERE s.order_id = o.id AND s.status = 'dispatched') AS our_parcels
        FROM orders o
        WHERE o.state IN ('shipped', 'canceled', 'expired', 'failed')
      )
      SELECT id AS order_id, 'shipped without exactly one charge of its amount' AS rule FROM books
        WHERE state = 'shipped' AND (charges <> 1 OR exact_charges <> 1 OR our_charges <> 1 OR unsettled <> 1)
      UNION ALL
      SELECT id, 'shipped without exactly one parcel' FROM books
        WHERE state = 'shipped' AND (parcels <> 1 OR our_parcels <> 1)
      UNION ALL
      SELECT id, 'ended without shipping, money not settled' FROM books
        WHERE state <> 'shipped' AND (charges <> 0 OR unsettled <> 0)
      UNION ALL
      SELECT id, 'ended without shipping, but a parcel left' FROM books
        WHERE state <> 'shipped' AND (parcels <> 0 OR our_parcels <> 0)
      UNION ALL
      SELECT c.order_id, 'charged, but the payment is not recorded as this order''s' FROM sandbox_charges c
        LEFT JOIN payments p ON p.payment_id = c.payment_id AND p.order_id = c.order_id
        WHERE c.status = 'charged' AND p.payment_id IS NULL
      UNION ALL
      SELECT p.order_id, 'refunded in our book, but not in the company''s' FROM payments p
        LEFT JOIN sandbox_charges c ON c.payment_id = p.payment_id
        WHERE p.status = 'refunded' AND (c.status IS NULL OR c.status <> 'refunded')
      UNION ALL
      SELECT s.order_id, 'a parcel left for no order' FROM sandbox_parcels s
        LEFT JOIN orders o ON o.id = s.order_id
        WHERE s.status = 'taken' AND o.id IS NULL
      ORDER BY order_id, rule`);
    return rows as unknown as Violation[];
  });
}

if (import.meta.main) {
  const { DATABASE_URL } = fromEnvironment(v.object({ DATABASE_URL: Variables.DATABASE_URL }));
  const db = openDatabase(DATABASE_URL);
  const violations = await audit(db);
  await db.close();
  for (const { order_id, rule } of violations) process.stdout.write(`${order_id}: ${rule}\n`);
  process.stdout.write(violations.length === 0 ? 'the books agree\n' : `${violations.length} violations\n`);
  process.exitCode = violations.length === 0 ? 0 : 1;
}
