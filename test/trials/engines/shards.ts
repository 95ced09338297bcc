/** What a keyspace of several shards must keep: one payment id for one order, and every transaction of an order on one shard. */
import { randomUUID } from 'node:crypto';
import type { StartInput } from '@trellis/contracts/order';
import type { Progress } from '@trellis/contracts/order-status';
import { openDatabase } from '@trellis/drizzle/client';
import type { Database } from '@trellis/drizzle/database';
import { createOrderStore } from '@trellis/drizzle/orders';
import { createPaymentStore } from '@trellis/drizzle/payments';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox/books';
import { createShipmentStore } from '@trellis/drizzle/shipments';
import { sql } from 'drizzle-orm';
import { query } from './mysql.ts';

const MONEY = { amount: '1.00', currency: 'USD' };
const ADDRESS = { line1: '1 Main St', city: 'Chicago' };
const PROGRESS: Progress = {
  step: 'shipping_child',
  approved: true,
  child_attempts: 1,
  last_error: null,
  dispatch_failed_reason: null,
};

function storesOn(db: Database) {
  return {
    orders: createOrderStore(db),
    payments: createPaymentStore(db),
    shipments: createShipmentStore(db),
    charges: createPaymentBook(db),
    parcels: createParcelBook(db),
  };
}
type Stores = ReturnType<typeof storesOn>;

async function validated({ orders }: Stores, payment_id?: string): Promise<StartInput> {
  const order_id = `shard-${randomUUID()}`;
  const order = {
    order_id,
    payment_id: payment_id ?? `pay-${order_id}`,
    address: ADDRESS,
    items: [{ sku: 'A', qty: 1 }],
  };
  await orders.receive(order, { workflow_id: `order-${order_id}`, run_id: order_id }, null);
  await orders.validated(order_id, MONEY);
  return order;
}

/** Two orders in different shards begin to charge one payment id at once, `rounds` times. Throws unless each time one may. */
export async function raceForPayments(url: string, rounds: number): Promise<string> {
  const db = openDatabase(url);
  const stores = storesOn(db);
  const outcomes: string[] = [];
  while (outcomes.length < rounds) {
    const payment_id = `pay-${randomUUID()}`;
    const both = [await validated(stores, payment_id), await validated(stores, payment_id)];
    const first = await query(
      `${url}:-80`,
      `SELECT id FROM orders WHERE id IN ('${both[0]?.order_id}', '${both[1]?.order_id}')`,
    );
    if (first.length !== 1) continue;
    const answers = await Promise.all(
      both.map(({ order_id }) =>
        stores.payments.beginCharge(order_id, payment_id).then(
          ({ outcome }) => outcome,
          (error: Error) => error.message,
        ),
      ),
    );
    outcomes.push(answers.toSorted().join(' + '));
  }
  await db.close();
  const counted = Object.entries(Object.groupBy(outcomes, (outcome) => outcome));
  const text = counted.map(([outcome, all]) => `${all?.length} × ${outcome}`).join(', ');
  if (outcomes.some((outcome) => outcome !== 'charge + conflict')) throw new Error(text);
  return text;
}

/** The lives of orders, in transactions in which Vitess allows one shard only. */
export async function liveOnOneShard(url: string, rounds: number): Promise<string> {
  const db = openDatabase(url);
  const single: Database = {
    ...db,
    transaction: (work) =>
      db.transaction(async (session) => {
        await session.execute(sql`SET transaction_mode = 'single'`);
        return work(session);
      }),
  };
  const stores = storesOn(single);
  const lives = { ship, refund, decline, expire };
  try {
    await refusesTwoShards(single);
    for (let round = 0; round < rounds; round += 1) for (const live of Object.values(lives)) await live(stores);
  } finally {
    await db.close();
  }
  return `${rounds} orders each: ${Object.keys(lives).join(', ')}`;
}

/** Shows that the check can fail. */
async function refusesTwoShards(db: Database): Promise<void> {
  const everywhere = db.transaction((session) => session.execute(sql`UPDATE orders SET step = 'init'`));
  const refused = await everywhere.then(
    () => false,
    () => true,
  );
  if (!refused) throw new Error('a transaction on two shards was not refused');
}

async function charged(stores: Stores): Promise<StartInput> {
  const order = await validated(stores);
  const { order_id, payment_id } = order;
  await stores.orders.changeAddress(order_id, { ...ADDRESS, line1: '2 Birch' }, randomUUID());
  await stores.payments.beginCharge(order_id, payment_id);
  await stores.charges.charge(payment_id, order_id, MONEY, 'charged');
  await stores.payments.charged(order_id, payment_id);
  return order;
}

async function ship(stores: Stores): Promise<void> {
  const { order_id } = await charged(stores);
  await stores.shipments.prepared(order_id, 1);
  await stores.shipments.failed(order_id, 1, 'refused');
  await stores.shipments.prepared(order_id, 2);
  await stores.parcels.take(order_id, ADDRESS, 'TRK');
  await stores.shipments.dispatched(order_id, 2, { tracking: 'TRK', address: ADDRESS });
  await stores.orders.shipped(order_id, { ...PROGRESS, child_attempts: 2 });
}

async function refund(stores: Stores): Promise<void> {
  const { order_id, payment_id } = await charged(stores);
  await stores.parcels.close(order_id);
  await stores.payments.claimForRefund(order_id, payment_id);
  await stores.charges.refund(payment_id, order_id);
  await stores.payments.settle(order_id, payment_id, true, { state: 'canceled', reason: 'user_request' }, PROGRESS);
}

async function decline(stores: Stores): Promise<void> {
  const { order_id, payment_id } = await validated(stores);
  await stores.payments.beginCharge(order_id, payment_id);
  await stores.charges.charge(payment_id, order_id, MONEY, 'declined');
  await stores.payments.declined(order_id, payment_id);
  await stores.orders.end(order_id, { state: 'failed', reason: 'PAYMENT_DECLINED' }, PROGRESS);
}

async function expire(stores: Stores): Promise<void> {
  const { order_id } = await validated(stores);
  await stores.orders.end(order_id, { state: 'expired' }, PROGRESS);
}
