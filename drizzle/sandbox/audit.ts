/** `npm run audit`: checks the money invariant for every order, over the product's and the companies' books; with `--trail` the audit trail. */
import { readCommandLine } from '@trellis/contracts/config/command-line';
import { fromEnvironment } from '@trellis/contracts/config/environment';
import { PROGRAMS } from '@trellis/contracts/config/variables';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { and, asc, eq, gt, inArray, lte, type SQL } from 'drizzle-orm';
import type { MySqlColumn } from 'drizzle-orm/mysql-core';
import { openDatabase } from '../client.ts';
import { type Database, DatabaseError, failureLine, isMissingTable, type Session } from '../database.ts';
import { orders, payments, shipments } from '../schema.ts';
import { brokenTrails } from '../trail-audit.ts';
import { sandboxCharges, sandboxParcels } from './schema.ts';

interface Violation {
  order_id: string;
  rule: string;
}

/** How many orders are read at once. */
const PAGE = 1_000;
/** For the statements of one page. */
const PAGE_TIMEOUT_MS = 60_000;

/**
 * Every order that ended without `shipped` nets to zero and has no parcel; every shipped one has exactly one charge
 * of exactly its amount and exactly one parcel; the companies hold nothing for an unknown order; and payment by payment
 * our book agrees with the company's. Orders that have not ended are not checked. Returns the violations, sorted by order
 * and rule, none when all of this holds. One database must hold the product's tables and the sandbox's; throws a
 * DatabaseError when tables are missing.
 *
 * The tables are read in ranges of order ids and compared here. One statement that joins them all is answered wrongly by
 * Vitess over several shards, and servers that people share limit how long a statement may take.
 */
export async function audit(db: Database): Promise<Violation[]> {
  try {
    const violations: Violation[] = [];
    for (let after: string | undefined = ''; after !== undefined; ) {
      const page = await db.run((session) => readPage(session, after ?? ''), PAGE_TIMEOUT_MS);
      violations.push(...(await confirmed(db, violationsIn(page.books))));
      after = page.last;
    }
    return violations;
  } catch (error) {
    if (!isMissingTable(error)) throw error;
    throw new DatabaseError(
      'tables are missing: the audit needs those of the product and of the sandbox in one database (npm run migrate)',
    );
  }
}

/** A page is not one snapshot: an order that changed while its page was read shows no violation when it is read once more. */
async function confirmed(db: Database, found: Violation[]): Promise<Violation[]> {
  const ids = [...new Set(found.map(keyOf))];
  if (ids.length === 0) return [];
  return violationsIn(await db.run((session) => readBooks(session, (column) => inArray(column, ids)), PAGE_TIMEOUT_MS));
}

/** The books of the next PAGE orders, and of everything whose order id lies between. `last`: undefined at the end. */
async function readPage(session: Session, after: string): Promise<{ books: Books; last: string | undefined }> {
  const { order_id } = orders;
  const ids = await session
    .select({ order_id })
    .from(orders)
    .where(gt(order_id, after))
    .orderBy(asc(order_id))
    .limit(PAGE);
  const last = ids.length < PAGE ? undefined : ids.at(-1)?.order_id;
  const books = await readBooks(session, (column) => and(gt(column, after), last ? lte(column, last) : undefined));
  return { books, last };
}

/** What each side has recorded about some orders. */
type Books = Awaited<ReturnType<typeof readBooks>>;

/** Reads the orders first: what an ended order owes was settled before its terminal state was written. */
async function readBooks(session: Session, chosen: (orderId: MySqlColumn) => SQL | undefined) {
  const { order_id, state, amount, currency } = orders;
  return {
    orders: await session.select({ order_id, state, amount, currency }).from(orders).where(chosen(order_id)),
    payments: await session.select().from(payments).where(chosen(payments.order_id)),
    dispatched: await session
      .select({ order_id: shipments.order_id })
      .from(shipments)
      .where(and(chosen(shipments.order_id), eq(shipments.status, 'dispatched'))),
    charges: await session.select().from(sandboxCharges).where(chosen(sandboxCharges.order_id)),
    parcels: await session
      .select({ order_id: sandboxParcels.order_id })
      .from(sandboxParcels)
      .where(and(chosen(sandboxParcels.order_id), eq(sandboxParcels.status, 'taken'))),
  };
}

function violationsIn(books: Books): Violation[] {
  const ofOrder = Object.fromEntries(
    Object.entries(books).map(([table, rows]) => [table, Map.groupBy<string, { order_id: string }>(rows, keyOf)]),
  ) as { [T in keyof Books]: Map<string, Books[T]> };
  const ids = new Set(Object.values(books).flatMap((rows) => rows.map(keyOf)));
  return [...ids].toSorted().flatMap((order_id) => {
    const [order] = ofOrder.orders.get(order_id) ?? [];
    const rules = brokenRules(order, {
      payments: ofOrder.payments.get(order_id) ?? [],
      dispatched: ofOrder.dispatched.get(order_id) ?? [],
      charges: ofOrder.charges.get(order_id) ?? [],
      parcels: ofOrder.parcels.get(order_id) ?? [],
    });
    return rules.toSorted().map((rule) => ({ order_id, rule }));
  });
}

const keyOf = ({ order_id }: { order_id: string }): string => order_id;

/** The rules that one order breaks. */
function brokenRules(order: Books['orders'][number] | undefined, recorded: Omit<Books, 'orders'>): string[] {
  const { payments, dispatched, charges, parcels } = recorded;
  const charged = charges.filter(({ status }) => status === 'charged');
  if (order === undefined)
    return broken([
      [charged.length > 0, 'charged, but there is no such order'],
      [parcels.length > 0, 'the carrier has a parcel, but there is no such order'],
    ]);
  if (!isTerminal(order.state)) return [];

  const exact = (row: Money) => row.amount !== null && sameMoney(row, order);
  const ourCharges = payments.filter(({ status }) => status === 'charged');
  const unsettled = payments.filter(({ status }) => status === 'charged' || status === 'pending');
  const onceExactly = [charged, charged.filter(exact), ourCharges.filter(exact), unsettled];
  const shipped = order.state === 'shipped';
  const chargeOf = (id: string) => charges.find(({ payment_id }) => payment_id === id);
  return broken([
    [shipped && onceExactly.some(({ length }) => length !== 1), 'shipped without exactly one charge of its amount'],
    [shipped && (parcels.length !== 1 || dispatched.length !== 1), 'shipped without exactly one parcel'],
    [!shipped && charged.length + unsettled.length > 0, 'ended without shipping, money not settled'],
    [!shipped && parcels.length + dispatched.length > 0, 'ended without shipping, but the carrier has a parcel'],
    [
      payments.some((payment) => disagree(payment, chargeOf(payment.payment_id))),
      "our book and the company's disagree",
    ],
    [
      charges.some(
        ({ status, payment_id: id }) =>
          status === 'refunded' && !payments.some((ours) => ours.payment_id === id && ours.status === 'refunded'),
      ),
      'refunded by the company, but not in our book',
    ],
  ]);
}

const broken = (rules: [broken: boolean, rule: string][]): string[] =>
  rules.flatMap(([isBroken, rule]) => (isBroken ? [rule] : []));

interface Money {
  amount: string | null;
  currency: string | null;
}

const sameMoney = (one: Money, other: Money): boolean => one.amount === other.amount && one.currency === other.currency;

/** Whether our record of a payment differs from the company's, which has none when `charge` is undefined. */
function disagree(payment: Books['payments'][number], charge: Books['charges'][number] | undefined): boolean {
  if (payment.status === 'pending') return false;
  if (payment.status === 'failed') return charge?.status === 'charged' || charge?.status === 'refunded';
  return charge?.status !== payment.status || !sameMoney(charge, payment);
}

if (import.meta.main) {
  const options = readCommandLine(
    'npm run audit',
    'Compare the books of the product and of the sandbox companies, order by order.',
    {
      trail: { description: 'check the chain of every order’s events instead' },
      'hashed-since': { description: 'with --trail: events before TIME, ISO 8601, may lack a hash', value: 'TIME' },
    },
  );
  const { trail, 'hashed-since': hashedSince } = options;
  if (hashedSince !== undefined && Number.isNaN(Date.parse(hashedSince))) {
    process.stderr.write('--hashed-since must be a time such as 2026-12-01T08:00:00Z\n');
    process.exit(2);
  }
  const { DATABASE_URL } = fromEnvironment(PROGRAMS.audit);
  try {
    const db = openDatabase(DATABASE_URL);
    const checked = trail ? reportTrails(db, hashedSince) : reportBooks(db);
    process.exitCode = (await checked.finally(() => db.close())) ? 0 : 1;
  } catch (error) {
    const line = failureLine('DATABASE_URL', DATABASE_URL, error);
    if (line === undefined) throw error;
    process.stderr.write(`${line}\n`);
    process.exitCode = 1;
  }
}

/** Prints the violations, or that there are none, which it returns. */
async function reportBooks(db: Database): Promise<boolean> {
  const violations = await audit(db);
  for (const { order_id, rule } of violations) process.stdout.write(`${order_id}: ${rule}\n`);
  process.stdout.write(violations.length === 0 ? 'the books agree\n' : `${violations.length} violations\n`);
  return violations.length === 0;
}

/** Prints the orders whose chain is broken, or that there are none, which it returns. */
async function reportTrails(db: Database, hashedSince: string | undefined): Promise<boolean> {
  let broken = 0;
  for await (const { order_id, problem } of brokenTrails(db, hashedSince)) {
    broken += 1;
    process.stdout.write(`${order_id}: ${problem}\n`);
  }
  process.stdout.write(broken === 0 ? 'the trail is unbroken\n' : `${broken} broken trails\n`);
  return broken === 0;
}
