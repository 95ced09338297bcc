/** `npm run audit`: checks the money invariant for every order, in one query over the product's and the companies' books. */

import { fromEnvironment } from '@trellis/contracts/config/environment';
import { PROGRAMS } from '@trellis/contracts/config/variables';
import { sql } from 'drizzle-orm';
import { openDatabase } from '../client.ts';
import { type Database, DatabaseError, failureLine, isMissingTable } from '../database.ts';

interface Violation {
  order_id: string;
  rule: string;
}

/** Long, because the query reads every order. */
const AUDIT_TIMEOUT_MS = 600_000;

/**
 * Every order that ended without `shipped` nets to zero and has no parcel; every shipped one has exactly one charge
 * of exactly its amount and exactly one parcel; the companies hold nothing for an unknown order; and payment by payment
 * our book agrees with the company's. Orders that have not ended are not checked. Returns the violations, none when all
 * of this holds. The query joins both sides, so one database must hold the product's tables and the sandbox's; throws a
 * DatabaseError when tables are missing.
 */
export async function audit(db: Database): Promise<Violation[]> {
  const violations = sql`(
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
      UNION
      SELECT id, 'shipped without exactly one parcel' FROM books
        WHERE state = 'shipped' AND (parcels <> 1 OR our_parcels <> 1)
      UNION
      SELECT id, 'ended without shipping, money not settled' FROM books
        WHERE state <> 'shipped' AND (charges <> 0 OR unsettled <> 0)
      UNION
      SELECT id, 'ended without shipping, but the carrier has a parcel' FROM books
        WHERE state <> 'shipped' AND (parcels <> 0 OR our_parcels <> 0)
      UNION
      SELECT p.order_id, 'our book and the company''s disagree' FROM payments p
        JOIN books o ON o.id = p.order_id
        LEFT JOIN sandbox_charges c ON c.payment_id = p.payment_id AND c.order_id = p.order_id
        WHERE (p.status IN ('charged', 'refunded')
            AND NOT (c.status <=> p.status AND c.amount <=> p.amount AND c.currency <=> p.currency))
          OR (p.status = 'failed' AND c.status IN ('charged', 'refunded'))
      UNION
      SELECT c.order_id, 'refunded by the company, but not in our book' FROM sandbox_charges c
        JOIN books o ON o.id = c.order_id
        LEFT JOIN payments p ON p.payment_id = c.payment_id AND p.order_id = c.order_id AND p.status = 'refunded'
        WHERE c.status = 'refunded' AND p.payment_id IS NULL
      UNION
      SELECT c.order_id, 'charged, but there is no such order' FROM sandbox_charges c
        LEFT JOIN orders o ON o.id = c.order_id
        WHERE c.status = 'charged' AND o.id IS NULL
      UNION
      SELECT s.order_id, 'the carrier has a parcel, but there is no such order' FROM sandbox_parcels s
        LEFT JOIN orders o ON o.id = s.order_id
        WHERE s.status = 'taken' AND o.id IS NULL
    ) AS violations`;
  const [orderId, rule] = [sql<string>`order_id`, sql<string>`rule`];
  try {
    return await db.run(
      (session) => session.select({ order_id: orderId, rule }).from(violations).orderBy(orderId, rule),
      AUDIT_TIMEOUT_MS,
    );
  } catch (error) {
    if (!isMissingTable(error)) throw error;
    throw new DatabaseError(
      'tables are missing: the audit needs those of the product and of the sandbox in one database (npm run migrate)',
    );
  }
}

if (import.meta.main) {
  const { DATABASE_URL } = fromEnvironment(PROGRAMS.audit);
  try {
    const db = openDatabase(DATABASE_URL);
    const violations = await audit(db).finally(() => db.close());
    for (const { order_id, rule } of violations) process.stdout.write(`${order_id}: ${rule}\n`);
    process.stdout.write(violations.length === 0 ? 'the books agree\n' : `${violations.length} violations\n`);
    process.exitCode = violations.length === 0 ? 0 : 1;
  } catch (error) {
    const line = failureLine('DATABASE_URL', DATABASE_URL, error);
    if (line === undefined) throw error;
    process.stderr.write(`${line}\n`);
    process.exitCode = 1;
  }
}
