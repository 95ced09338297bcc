/** Checks the chains of the orders' events (event-chain.ts). */
import { and, asc, eq, gt, lte, type SQL } from 'drizzle-orm';
import type { MySqlColumn } from 'drizzle-orm/mysql-core';
import type { Database, Session } from './database.ts';
import { hashOf } from './event-chain.ts';
import { events, orders } from './schema.ts';

interface BrokenTrail {
  order_id: string;
  /** Names the first event that does not fit. */
  problem: string;
}

/** What is recorded of one order. `last_event_hash`: undefined when there is no such order. */
interface Trail {
  last_event_hash: string | null | undefined;
  events: (typeof events.$inferSelect)[];
}

/** How many orders are read at once. */
const PAGE = 500;
/** For the statements of one page. */
const PAGE_TIMEOUT_MS = 60_000;

/**
 * Yields every order whose chain of events is broken, sorted by id, with the first event that breaks it. Events of versions up to 0.5 have
 * no hash. They are accepted before an order's first event with a hash, and nowhere else: what an old worker writes into a chain can't be
 * told from what a person inserts. With `hashedSince`, ISO 8601, they are accepted wherever they are older than that, and no others.
 */
export async function* brokenTrails(db: Database, hashedSince?: string): AsyncGenerator<BrokenTrail> {
  const since = hashedSince && new Date(hashedSince).toISOString();
  for (let after: string | undefined = ''; after !== undefined; ) {
    const page = await db.run((session) => readPage(session, after ?? ''), PAGE_TIMEOUT_MS);
    for (const [order_id, trail] of page.trails) {
      if (problemOf(trail, since) === undefined) continue;
      // A page is not one snapshot: an order that moves on while its page is read fits when it is read in one transaction.
      const alone = await db.transaction((tx) => readTrails(tx, (column) => eq(column, order_id)));
      const problem = problemOf(alone.get(order_id) ?? trail, since);
      if (problem !== undefined) yield { order_id, problem };
    }
    after = page.last;
  }
}

/** The trails of the next PAGE orders, and of events without an order whose order id lies between. `last`: undefined at the end. */
async function readPage(session: Session, after: string): Promise<{ trails: Map<string, Trail>; last?: string }> {
  const { order_id } = orders;
  const ids = session.select({ order_id }).from(orders).where(gt(order_id, after)).orderBy(asc(order_id));
  const last = (await ids.limit(1).offset(PAGE - 1))[0]?.order_id;
  const chosen = (column: MySqlColumn) => and(gt(column, after), last === undefined ? undefined : lte(column, last));
  return { trails: await readTrails(session, chosen), ...(last !== undefined && { last }) };
}

async function readTrails(
  session: Session,
  chosen: (orderId: MySqlColumn) => SQL | undefined,
): Promise<Map<string, Trail>> {
  const { order_id, last_event_hash } = orders;
  const rows = await session.select({ order_id, last_event_hash }).from(orders).where(chosen(order_id));
  const recorded = await session.select().from(events).where(chosen(events.order_id));
  const ofOrder = Map.groupBy(recorded, (event) => event.order_id);
  const heads = new Map(rows.map((row) => [row.order_id, row.last_event_hash]));
  const ids = [...new Set([...heads.keys(), ...ofOrder.keys()])].sort();
  const trailOf = (id: string): Trail => ({
    last_event_hash: heads.get(id),
    events: (ofOrder.get(id) ?? []).sort((one, other) => one.id - other.id),
  });
  return new Map(ids.map((id) => [id, trailOf(id)]));
}

/** What breaks the chain; undefined when it is unbroken. */
function problemOf({ last_event_hash, events }: Trail, since: string | undefined): string | undefined {
  let previous: string | null = null;
  for (const event of events) {
    const name = `event ${event.id} (${event.type})`;
    if (event.hash === null) {
      if (since === undefined ? previous === null : event.ts < since) continue;
      return `${name} has no hash`;
    }
    if (event.hash !== hashOf(previous, event))
      return `${name} does not fit the event before it: one of the two was changed, or one is missing or was added`;
    previous = event.hash;
  }
  if (last_event_hash === undefined) return `event ${events[0]?.id} is of an order that does not exist`;
  return last_event_hash === previous ? undefined : 'its last event is not the one that the order names as its last';
}
