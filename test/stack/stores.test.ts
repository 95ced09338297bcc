/** The stores on a real database: each change is written once, states only move forward, also with deadlocks, lost connections and timeouts. */
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { createLogger } from '@trellis/contracts/config/logger';
import { Event } from '@trellis/contracts/event';
import { OrderSummary, OrderView, type StartInput } from '@trellis/contracts/order';
import { FailedAttempt, type Progress, WorkflowStatus } from '@trellis/contracts/order-status';
import { MAX_AMOUNT, Payment } from '@trellis/contracts/payment';
import { Shipment } from '@trellis/contracts/shipment';
import { type Ending, STATES, type State } from '@trellis/contracts/states-and-steps';
import type { Run } from '@trellis/contracts/temporal';
import { Timestamp } from '@trellis/contracts/timestamp';
import { type AttemptRecord, createAttemptStore } from '@trellis/drizzle/attempts';
import { openDatabase } from '@trellis/drizzle/client';
import type { DatabaseError, Session } from '@trellis/drizzle/database';
import { createErasureStore } from '@trellis/drizzle/erasure';
import { createOpenOrders } from '@trellis/drizzle/open-orders';
import { createOrderKeyStore } from '@trellis/drizzle/order-keys';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { createPaymentStore } from '@trellis/drizzle/payments';
import { createPriceStore } from '@trellis/drizzle/prices';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox/books';
import { sandboxCharges, sandboxParcels } from '@trellis/drizzle/sandbox/schema';
import * as schema from '@trellis/drizzle/schema';
import { createShipmentStore } from '@trellis/drizzle/shipments';
import { createAttemptLog } from '@trellis/workers/activities/attempt-log';
import { desc, eq, sql } from 'drizzle-orm';
import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise';
import * as v from 'valibot';
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { anOrder, freshDatabase, freshId, HAPPY_EVENTS, importLines, overGateway, trailProblems } from '../fixtures.ts';
import { openSqlProxy } from '../trials/sql-proxy.ts';

const { url, drop } = await freshDatabase();
const httpUrl = await overGateway(url);
afterAll(drop);

const MONEY = { amount: '2.00', currency: 'EUR' };
const CANCELED = { state: 'canceled', reason: 'user_request' } as const;
const PROGRESS: Progress = {
  step: 'charge_payment',
  approved: true,
  child_attempts: 1,
  last_error: null,
  dispatch_failed_reason: null,
};

const runOf = (order: StartInput): Run => ({ workflow_id: `order-${order.order_id}`, run_id: order.order_id });
const parcelOf = (order: StartInput) => ({ tracking: `TRK-${order.order_id}`, address: order.address });

/** Runs `work` on a connection of its own, as another process would. */
async function beside<T>(work: (connection: Connection) => Promise<T>, at = url): Promise<T> {
  const connection = await createConnection(at);
  return work(connection).finally(() => connection.end());
}

const DRIVERS = [
  { driver: 'mysql2', at: url },
  { driver: 'PlanetScale’s driver', at: httpUrl },
];

describe.each(DRIVERS)('over $driver', ({ at }) => {
  const scheme = new URL(at).protocol;
  const db = openDatabase(at);
  afterAll(() => db.close());

  const orders = createOrderStore(db);
  const payments = createPaymentStore(db);
  const shipments = createShipmentStore(db);
  const views = createOrderViews(db);

  /** The calls that bring an order into each state, in the sequence of the states. */
  const LIFECYCLE: { name: string; reaches: State; step: (order: StartInput) => Promise<unknown> }[] = [
    { name: 'receive', reaches: 'received', step: (order) => orders.receive(order, runOf(order), null) },
    {
      name: 'validated',
      reaches: 'awaiting_approval',
      step: ({ order_id }) => orders.validated(order_id, MONEY),
    },
    {
      name: 'beginCharge',
      reaches: 'approved',
      step: (order) => payments.beginCharge(order.order_id, order.payment_id),
    },
    {
      name: 'charged',
      reaches: 'payment_charged',
      step: (order) => payments.charged(order.order_id, order.payment_id),
    },
    { name: 'prepared', reaches: 'shipping', step: (order) => shipments.prepared(order.order_id, 1) },
    {
      name: 'dispatched',
      reaches: 'shipping',
      step: (order) => shipments.dispatched(order.order_id, 1, parcelOf(order)),
    },
    { name: 'shipped', reaches: 'shipped', step: (order) => orders.shipped(order.order_id, PROGRESS) },
  ];

  async function orderIn(state: State, given: Partial<StartInput> = {}): Promise<StartInput> {
    const order = anOrder(given);
    for (const { reaches, step } of LIFECYCLE) if (STATES.indexOf(reaches) <= STATES.indexOf(state)) await step(order);
    return order;
  }

  async function viewOf({ order_id }: { order_id: string }): Promise<OrderView> {
    const view = await views.view(order_id);
    if (!view) throw new Error(`no order ${order_id}`);
    return view;
  }

  /** Everything stored about an order, `updated_at` included: equal snapshots mean that nothing was written. */
  const everythingOf = async (order: StartInput) => [await views.find(order.order_id), await viewOf(order)];

  const typesOf = (view: OrderView) => view.events.map((event) => event.type);

  describe('an order is received once', () => {
    test('and is bound to its first run', async () => {
      const order = anOrder();
      const answers = await Promise.all([1, 2, 3].map(() => orders.receive(order, runOf(order), 'hash')));
      expect(answers).toEqual([1, 2, 3].map(() => ({ owner: true, state: 'received' })));
      expect(await views.find(order.order_id)).toMatchObject({ run_id: runOf(order).run_id, request_hash: 'hash' });
      expect(await viewOf(order)).toMatchObject({ state: 'received', address: order.address, items: order.items });
      expect(typesOf(await viewOf(order))).toEqual(['order_received']);
    });

    test('by exactly one of several concurrent runs', async () => {
      const order = anOrder();
      const runs = Array.from({ length: 10 }, (_, n) => ({ workflow_id: `w${n}`, run_id: `r${n}` }));
      const answers = await Promise.all(runs.map((run) => orders.receive(order, run, null)));
      const owners = runs.filter((_, n) => answers[n]?.owner);
      expect(owners).toHaveLength(1);
      expect(await views.find(order.order_id)).toMatchObject({ run_id: owners[0]?.run_id });
      expect((await viewOf(order)).events).toMatchObject([{ payload: { run_id: owners[0]?.run_id } }]);
    });

    test.each([
      'received',
      'approved',
      'shipped',
    ] as const)('another run changes nothing and gets the recorded state %s', async (state) => {
      const order = await orderIn(state);
      const before = await everythingOf(order);
      const other = { ...order, address: { line1: 'Elsewhere', city: 'Berlin' } };
      const answer = await orders.receive(other, { workflow_id: 'other', run_id: 'other' }, 'other');
      expect(answer).toEqual({ owner: false, state });
      expect(await everythingOf(order)).toEqual(before);
    });

    test('also without address, items and payment', async () => {
      const order_id = freshId();
      await orders.receive({ order_id }, { workflow_id: 'w', run_id: 'r' }, null);
      expect(await viewOf({ order_id })).toMatchObject({ address: null, items: null, payment_id: null, amount: null });
    });
  });

  test('an order’s key is stored once, and the first one stays', async () => {
    const keys = createOrderKeyStore(db);
    const { order_id } = anOrder();
    expect(await keys.find(order_id)).toBeUndefined();
    const made = Array.from({ length: 5 }, (_, n) => ({ kek: 'k1', wrapped: `${n}`.repeat(80) }));
    const stored = await Promise.all(made.map((key) => keys.add(order_id, key)));
    expect(stored.filter(Boolean)).toHaveLength(1);
    expect(await keys.find(order_id)).toEqual(made[stored.indexOf(true)]);
    expect(await keys.add(order_id, { kek: 'k2', wrapped: 'x' })).toBe(false);
    expect(await keys.find(order_id)).toEqual(made[stored.indexOf(true)]);
  });

  describe('a price list', () => {
    const store = createPriceStore(db);
    const freshShop = () => freshId('shop');
    const IN_AN_HOUR = new Date(Date.now() + 3_600_000).toISOString();

    /** Moves a shop's whole list into the past, as if so many hours had gone by. */
    const hoursLater = (hours: number, shop: string) =>
      db.run((session) =>
        session
          .update(schema.prices)
          .set({ valid_from: sql`valid_from - INTERVAL ${hours} HOUR` })
          .where(eq(schema.prices.shop, shop)),
      );

    const rowsOf = (shop: string) =>
      db.run((session) =>
        session
          .select()
          .from(schema.prices)
          .where(eq(schema.prices.shop, shop))
          .orderBy(schema.prices.sku, schema.prices.valid_from),
      );

    test('has the price that holds now, until the next one, and exists from its first one on', async () => {
      const shop = freshShop();
      expect(await store.of(shop, ['A'])).toBeUndefined();
      await importLines(db, [`A,1.50,EUR,${IN_AN_HOUR}`], shop);
      expect(await store.of(shop, ['A'])).toBeUndefined();
      await hoursLater(2, shop);
      await importLines(db, [`A,2.50,USD,${IN_AN_HOUR}`, 'B,1980,JPY,'], shop);
      const B = { amount: '1980.00', currency: 'JPY' };
      const current = async () => Object.fromEntries((await store.of(shop, ['A', 'B', 'B', 'C'])) ?? []);
      expect(await current()).toMatchObject({ A: { amount: '1.50', currency: 'EUR' }, B });
      await hoursLater(2, shop);
      expect(await current()).toMatchObject({ A: { amount: '2.50', currency: 'USD' }, B });
      const others = await store.of(shop, ['C', 'a', 'b']);
      expect(['C', 'a', 'b', 'A'].map((sku) => others?.has(sku))).toEqual([false, false, false, false]);
      expect(await store.of(freshShop(), ['A'])).toBeUndefined();
    });

    test('is imported again without a change; a price to come is replaced, one that was valid never', async () => {
      const shop = freshShop();
      const lines = ['A,1.50,EUR,', `A,2.50,EUR,${IN_AN_HOUR}`, 'B,3,EUR,'];
      expect(await importLines(db, lines, shop)).toEqual({ added: 3, replaced: 0, unchanged: 0 });
      const first = await rowsOf(shop);
      expect(await importLines(db, lines, shop)).toEqual({ added: 0, replaced: 0, unchanged: 3 });
      expect(await rowsOf(shop)).toEqual(first);
      const changed = ['A,1.60,EUR,', `A,2.50,USD,${IN_AN_HOUR}`];
      expect(await importLines(db, changed, shop)).toEqual({ added: 1, replaced: 1, unchanged: 0 });
      const since = first[0]?.valid_from;
      expect(await importLines(db, [`A,1.50,EUR,${since}`], shop)).toEqual({ added: 0, replaced: 0, unchanged: 1 });
      const before = await rowsOf(shop);
      expect(before.map(({ sku, amount, currency }) => `${sku} ${amount} ${currency}`)).toEqual([
        ...['A 1.50 EUR', 'A 1.60 EUR', 'A 2.50 USD'],
        'B 3.00 EUR',
      ]);
      const past = ['C,9,EUR,', `A,1.40,EUR,${since}`, 'C,9,EUR,2020-01-01'];
      expect(await importLines(db, past, shop)).toMatchObject([
        { line: 3, path: 'valid_from' },
        { line: 4, path: 'valid_from' },
      ]);
      expect(await rowsOf(shop)).toEqual(before);
    });

    test('has any number of prices, up to the highest', async () => {
      const shop = freshShop();
      const lines = Array.from({ length: 1_200 }, (_, n) => `sku-${n},${n + 1}.99,EUR,`);
      const highest = { amount: MAX_AMOUNT, currency: 'EUR' };
      expect(await importLines(db, [...lines, `字,${MAX_AMOUNT},EUR,`], shop)).toMatchObject({ added: 1_201 });
      const list = await store.of(shop, ['sku-1199', '字']);
      expect([list?.get('sku-1199')?.amount, list?.get('字')]).toEqual(['1200.99', highest]);
      const order = anOrder();
      await orders.receive(order, runOf(order), null);
      await orders.validated(order.order_id, highest);
      expect(await payments.beginCharge(order.order_id, order.payment_id)).toMatchObject({ money: highest });
    });
  });

  test('an order keeps the price with which it was validated, whatever a repetition finds', async () => {
    const order = await orderIn('received');
    expect(await orders.validated(order.order_id, undefined)).toBe(false);
    expect(await viewOf(order)).toMatchObject({ state: 'received', amount: null });
    const price = { amount: '19.98', currency: 'EUR', unit_amounts: ['9.99'] };
    expect(await orders.validated(order.order_id, price)).toBe(true);
    const before = await everythingOf(order);
    expect((await viewOf(order)).events.at(-1)).toMatchObject({ type: 'order_validated', payload: price });
    expect(await orders.validated(order.order_id, MONEY)).toBe(true);
    expect(await orders.validated(order.order_id, undefined)).toBe(true);
    expect(await everythingOf(order)).toEqual(before);
  });

  describe('states only move forward', () => {
    const ENDINGS: Partial<Record<State, Ending>> = {
      canceled: CANCELED,
      expired: { state: 'expired' },
      failed: { state: 'failed', reason: 'PAYMENT_DECLINED' },
    };

    async function orderLaterIn(state: State): Promise<StartInput> {
      const ending = ENDINGS[state];
      const order = await orderIn(ending ? 'awaiting_approval' : state);
      if (ending) await orders.end(order.order_id, ending, PROGRESS);
      return order;
    }

    const late = LIFECYCLE.flatMap(({ name, reaches, step }) =>
      STATES.slice(STATES.indexOf(reaches) + 1).map((state) => ({ name, step, state })),
    )
      // A dispatched parcel is recorded on an order that ended without shipping too: the audit must find it.
      .filter(({ name, state }) => name !== 'dispatched' || state === 'shipped');

    test.each(late)('a late `$name` changes nothing once the order is $state', async ({ step, state }) => {
      const order = await orderLaterIn(state);
      const before = await everythingOf(order);
      await step(order);
      expect(await everythingOf(order)).toEqual(before);
    });

    test('an order that has ended keeps its first terminal state', async () => {
      const order = await orderIn('awaiting_approval');
      expect(await orders.end(order.order_id, CANCELED, PROGRESS)).toBe('canceled');
      const before = await everythingOf(order);
      expect(await orders.end(order.order_id, { state: 'canceled', reason: 'second' }, PROGRESS)).toBe('canceled');
      expect(await orders.end(order.order_id, { state: 'expired' }, PROGRESS)).toBe('canceled');
      expect(await orders.shipped(order.order_id, PROGRESS)).toBe('canceled');
      expect(await orders.changeAddress(order.order_id, { line1: 'New', city: 'Rome' }, 'c-1')).toBeUndefined();
      expect(await payments.beginCharge(order.order_id, order.payment_id)).toEqual({
        outcome: 'closed',
        state: 'canceled',
      });
      expect(await everythingOf(order)).toEqual(before);
    });

    test('a late report of an earlier shipping attempt does not undo a newer one', async () => {
      const order = await orderIn('payment_charged');
      await shipments.prepared(order.order_id, 1);
      await shipments.failed(order.order_id, 1, 'first');
      await shipments.prepared(order.order_id, 2);
      await shipments.failed(order.order_id, 2, 'second');
      const before = await everythingOf(order);
      await shipments.prepared(order.order_id, 1);
      await shipments.failed(order.order_id, 1, 'first');
      expect(await everythingOf(order)).toEqual(before);
    });

    test('a late repetition of an older address change does not undo the newer one', async () => {
      const order = await orderIn('awaiting_approval');
      await orders.changeAddress(order.order_id, { line1: 'Old', city: 'Rome' }, 'c-1');
      await orders.changeAddress(order.order_id, { line1: 'New', city: 'Rome' }, 'c-2');
      const repeated = await orders.changeAddress(order.order_id, { line1: 'Old', city: 'Rome' }, 'c-1');
      expect(repeated).toEqual({ line1: 'New', city: 'Rome' });
      expect(await viewOf(order)).toMatchObject({ address: { line1: 'New', city: 'Rome' } });
    });

    test('a parcel goes to the order’s address, which no change decided before its shipping attempt changes later', async () => {
      const order = await orderIn('payment_charged');
      expect(await shipments.prepared(order.order_id, 1)).toEqual(order.address);
      const outdated = orders.changeAddress(order.order_id, { line1: 'New', city: 'Rome' }, 'c-1', { attempts: 0 });
      expect(await outdated).toEqual(order.address);
      expect(await viewOf(order)).toMatchObject({ address: order.address });
      await shipments.failed(order.order_id, 1, 'refused');
      await orders.changeAddress(order.order_id, { line1: 'New', city: 'Rome' }, 'c-1', { attempts: 1 });
      expect(await shipments.prepared(order.order_id, 2)).toEqual({ line1: 'New', city: 'Rome' });
    });

    test('one parcel is dispatched once, whichever shipping attempts report it', async () => {
      const order = await orderIn('payment_charged');
      await shipments.prepared(order.order_id, 1);
      await shipments.prepared(order.order_id, 2);
      await shipments.dispatched(order.order_id, 2, parcelOf(order));
      await shipments.dispatched(order.order_id, 1, parcelOf(order));
      const attempts = (await viewOf(order)).shipments.map(({ attempt, status }) => ({ attempt, status }));
      expect(attempts).toEqual([
        { attempt: 1, status: 'failed' },
        { attempt: 2, status: 'dispatched' },
      ]);
    });

    test('a parcel reported by an attempt that was never prepared is recorded on the last prepared one', async () => {
      const order = await orderIn('payment_charged');
      await shipments.prepared(order.order_id, 1);
      await shipments.prepared(order.order_id, 2);
      await shipments.dispatched(order.order_id, 3, parcelOf(order));
      const attempts = (await viewOf(order)).shipments.map(({ attempt, status }) => ({ attempt, status }));
      expect(attempts).toEqual([
        { attempt: 1, status: 'failed' },
        { attempt: 2, status: 'dispatched' },
      ]);
    });
  });

  describe('each event is written once', () => {
    test('however often the steps repeat, in the order of the steps', async () => {
      const order = anOrder();
      for (const { step } of LIFECYCLE) for (let times = 0; times < 3; times += 1) await step(order);
      expect(typesOf(await viewOf(order))).toEqual(HAPPY_EVENTS);
    });

    test('for each command and each shipping attempt', async () => {
      const order = await orderIn('received');
      const refusal = { command: 'address', state: 'received', code: 'TOO_LATE', id: 'c-2' } as const;
      for (let times = 0; times < 2; times += 1) {
        await orders.changeAddress(order.order_id, order.address, 'c-1');
        await orders.commandRefused(order.order_id, refusal);
        await orders.commandRefused(order.order_id, { ...refusal, id: 'c-3' });
        await shipments.failed(order.order_id, 1, 'refused');
        await shipments.failed(order.order_id, 2, 'refused');
      }
      expect(typesOf(await viewOf(order))).toEqual([
        'order_received',
        'address_updated',
        'command_refused',
        'command_refused',
        'dispatch_failed',
        'dispatch_failed',
      ]);
    });

    test('while 100 concurrent transactions of one order all succeed', async () => {
      const order = await orderIn('awaiting_approval');
      const commands = Array.from({ length: 50 }, (_, n) => `c-${n}`);
      const changes = commands.map((id) => orders.changeAddress(order.order_id, order.address, id));
      const charges = commands.map(() => payments.beginCharge(order.order_id, order.payment_id));
      expect(await Promise.all(changes)).toEqual(commands.map(() => order.address));
      expect(await Promise.all(charges)).toEqual(commands.map(() => ({ outcome: 'charge', money: MONEY })));
      const types = typesOf(await viewOf(order));
      expect(types.filter((type) => type === 'address_updated')).toHaveLength(50);
      expect(types.filter((type) => type === 'order_approved')).toHaveLength(1);
    });
  });

  describe('a payment id is bound to the first order', () => {
    test('of two that charge it concurrently: one charges, the other conflicts', async () => {
      for (let round = 0; round < 10; round += 1) {
        const payment_id = freshId('p');
        const both = [
          await orderIn('awaiting_approval', { payment_id }),
          await orderIn('awaiting_approval', { payment_id }),
        ];
        const answers = await Promise.all(both.map(({ order_id }) => payments.beginCharge(order_id, payment_id)));
        expect(answers.map(({ outcome }) => outcome).sort()).toEqual(['charge', 'conflict']);
        const bound = await Promise.all(both.map(async (order) => (await viewOf(order)).payments.length));
        expect(bound).toEqual(answers.map(({ outcome }) => (outcome === 'charge' ? 1 : 0)));
      }
    });

    test('and a repeated charge returns its outcome', async () => {
      const charged = await orderIn('payment_charged');
      expect(await payments.beginCharge(charged.order_id, charged.payment_id)).toEqual({ outcome: 'charged' });
      const declined = await orderIn('approved');
      await payments.declined(declined.order_id, declined.payment_id);
      expect(await payments.beginCharge(declined.order_id, declined.payment_id)).toEqual({ outcome: 'declined' });
    });

    test('also when that order only refunds it', async () => {
      const [first, second] = [await orderIn('awaiting_approval'), await orderIn('awaiting_approval')];
      expect(await payments.claimForRefund(first.order_id, first.payment_id)).toEqual({ outcome: 'ours' });
      expect(await payments.beginCharge(second.order_id, first.payment_id)).toEqual({ outcome: 'conflict' });
      expect(await payments.claimForRefund(second.order_id, first.payment_id)).toEqual({ outcome: 'foreign' });
    });
  });

  describe('settle', () => {
    const settle = (order: StartInput, payment_id = order.payment_id, wasCharged = true) =>
      payments.settle(order.order_id, payment_id, wasCharged, CANCELED, PROGRESS);

    test('refunds, ends the order and keeps the amount', async () => {
      const order = await orderIn('payment_charged');
      expect(await settle(order)).toBe('canceled');
      const view = await viewOf(order);
      expect(view).toMatchObject({ state: 'canceled', reason: 'user_request' });
      expect(view.payments).toMatchObject([{ status: 'refunded', ...MONEY }]);
      expect(typesOf(view).slice(-2)).toEqual(['payment_refunded', 'order_canceled']);
    });

    test('records a charge that only the payment company had recorded', async () => {
      const order = await orderIn('approved');
      await settle(order);
      expect(typesOf(await viewOf(order)).slice(-3)).toEqual(['payment_charged', 'payment_refunded', 'order_canceled']);
    });

    test('records no refund of a payment that was never charged', async () => {
      const order = await orderIn('approved');
      await settle(order, order.payment_id, false);
      expect((await viewOf(order)).payments).toMatchObject([{ status: 'failed', ...MONEY }]);
      expect(typesOf(await viewOf(order))).not.toContain('payment_refunded');
    });

    test('changes nothing when repeated', async () => {
      const order = await orderIn('payment_charged');
      await settle(order);
      const before = await everythingOf(order);
      expect(await settle(order)).toBe('canceled');
      expect(await settle(order, order.payment_id, false)).toBe('canceled');
      expect(await everythingOf(order)).toEqual(before);
    });

    test("never changes another order's payment", async () => {
      const [first, second] = [await orderIn('payment_charged'), await orderIn('awaiting_approval')];
      const before = await everythingOf(first);
      await settle(second, first.payment_id, false);
      expect(await everythingOf(first)).toEqual(before);
      expect(await viewOf(second)).toMatchObject({ state: 'canceled', payments: [] });
    });

    test('writes all or nothing', async () => {
      const order = await orderIn('payment_charged');
      const before = await everythingOf(order);
      await beside(async (connection) => {
        await connection.query(`CREATE TRIGGER no_end BEFORE INSERT ON events FOR EACH ROW
        IF NEW.type = 'order_canceled' THEN SIGNAL SQLSTATE '45000'; END IF`);
        await expect(settle(order)).rejects.toThrow();
        await connection.query('DROP TRIGGER no_end');
      });
      expect(await everythingOf(order)).toEqual(before);
    });
  });

  describe('exact storage of', () => {
    test('ids that differ only in case, as two orders and two payments', async () => {
      const lower = freshId('case');
      const [one, other] = [await orderIn('approved', { order_id: lower }), anOrder({ order_id: lower.toUpperCase() })];
      expect(await views.view(other.order_id)).toBeUndefined();
      await orderIn('approved', { ...other, payment_id: one.payment_id.toUpperCase() });
      expect((await viewOf(one)).payments).toMatchObject([{ payment_id: one.payment_id }]);
      expect((await viewOf(other)).payments).toMatchObject([{ payment_id: one.payment_id.toUpperCase() }]);
    });

    test.each([
      'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-',
      'abcdefghijklmnopqrstuvwxyz-:_.',
      '-',
      'x'.repeat(64),
    ])('the id %s', async (id) => {
      const order = await orderIn('shipped', { order_id: id, payment_id: id });
      const view = await viewOf(order);
      expect(view).toMatchObject({ order_id: id, payment_id: id, payments: [{ payment_id: id }] });
      expect(view.events).toHaveLength(LIFECYCLE.length);
    });

    test.each(['1000000.00', '0.10', '999999999999.99'])('the amount %s', async (amount) => {
      const money = { amount, currency: 'EUR' };
      const order = await orderIn('received');
      await orders.validated(order.order_id, money);
      expect(await payments.beginCharge(order.order_id, order.payment_id)).toEqual({ outcome: 'charge', money });
      await payments.settle(order.order_id, order.payment_id, true, CANCELED, PROGRESS);
      const view = await viewOf(order);
      expect(view).toMatchObject(money);
      expect(view.payments).toMatchObject([money]);
      expect(view.events.find(({ type }) => type === 'payment_refunded')?.payload).toMatchObject(money);
    });

    test('text of any script in JSON', async () => {
      const text = 'e\u0301 é 👩‍👩‍👧‍👦 🇨🇭 漢字 עברית "double" \'single\' `tick` \\ \\n \n \t \u0000 \u2028 %s ? ;--';
      const address = { line1: text, city: 'Zürich', 'schlüssel "🔑"': text };
      const order = await orderIn('received', { address, items: [{ sku: text, qty: 1 }] });
      await orders.end(order.order_id, { state: 'canceled', reason: text }, { ...PROGRESS, last_error: text });
      const view = await viewOf(order);
      expect(view).toMatchObject({ address, items: order.items, reason: text });
      expect(view.events.at(-1)?.payload).toEqual({ state: 'canceled', reason: text });
      expect(await views.find(order.order_id)).toMatchObject({ last_error: text });
    });

    test('times, in UTC, whatever the time zone of the server', async () => {
      const global = "SELECT @@GLOBAL.time_zone AS 'zone'";
      const zone = await beside(async (connection) => (await connection.query<RowDataPacket[]>(global))[0][0]?.zone);
      await beside((connection) => connection.query("SET GLOBAL time_zone = '+05:30'"));
      const there = openDatabase(at);
      try {
        const order = anOrder();
        const before = Date.now();
        await createOrderStore(there).receive(order, runOf(order), null);
        for (const reader of [views, createOrderViews(there)]) {
          const view = await reader.view(order.order_id);
          const times = [view?.created_at, view?.updated_at, view?.events[0]?.ts];
          for (const time of times) expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
          for (const time of times) expect(Math.abs(Date.parse(time ?? '') - before)).toBeLessThan(5_000);
        }
      } finally {
        await there.close();
        await beside((connection) => connection.query('SET GLOBAL time_zone = ?', [zone]));
      }
    });
  });

  describe('a row has the keys of its contract', () => {
    const StrictView = v.strictObject({
      ...OrderView.entries,
      payments: v.pipe(v.array(v.strictObject(Payment.entries)), v.nonEmpty()),
      shipments: v.pipe(v.array(v.strictObject(Shipment.entries)), v.nonEmpty()),
      events: v.pipe(v.array(v.strictObject(Event.entries)), v.nonEmpty()),
    });
    const StrictList = v.pipe(v.array(v.strictObject(OrderSummary.entries)), v.nonEmpty());
    const StrictStatus = v.strictObject(WorkflowStatus.entries);

    test.each(['received', 'shipped'] as const)('of an order that is %s', async (state) => {
      const { order_id } = await orderIn(state);
      const [view, { recorded }] = [await views.view(order_id), await views.status(order_id, 1)];
      const Whole = state === 'received' ? v.strictObject(OrderView.entries) : StrictView;
      expect(v.parse(Whole, view)).toEqual(view);
      expect(v.parse(StrictStatus, recorded?.status)).toMatchObject({ order_id, state, canceled: false });
      expect(v.parse(Timestamp, recorded?.updated_at)).toBe(view?.updated_at);
      expect(v.parse(StrictList, (await views.list({ limit: 5 })).orders)).not.toEqual([]);
    });

    test('of a canceled order, with the cancel reason as its reason', async () => {
      const { order_id } = await orderIn('awaiting_approval');
      await orders.end(order_id, CANCELED, PROGRESS);
      const { recorded } = await views.status(order_id, 1);
      expect(v.parse(StrictStatus, recorded?.status)).toEqual({
        ...PROGRESS,
        order_id,
        state: 'canceled',
        canceled: true,
        cancel_reason: 'user_request',
        reason: null,
      });
      expect(await views.view(order_id)).toMatchObject({ reason: 'user_request' });
    });

    test('of a failed attempt', async () => {
      const order_id = freshId();
      await createAttemptStore(db).add([{ order_id, step: 'charge_payment', attempt: 1, error: 'away' }]);
      const { recorded, recent } = await views.status(order_id, 1);
      expect(recorded).toBeNull();
      const { errors } = recent;
      expect(v.parse(v.tuple([v.strictObject(FailedAttempt.entries)]), errors)).toEqual(errors);
    });

    test('of an order that another workflow ends', async () => {
      const order = await orderIn('approved');
      expect(await createOpenOrders(db).unfinished(order.order_id)).toEqual({
        state: 'approved',
        payment_id: order.payment_id,
        amount: MONEY.amount,
        run: runOf(order),
        progress: { ...PROGRESS, child_attempts: 0 },
      });
    });
  });

  describe('a view stays small', () => {
    test('its events come in pages of 100, oldest first, each event once', async () => {
      const order = await orderIn('awaiting_approval');
      const add = (from: number, to: number) =>
        beside((connection) =>
          connection.query('INSERT INTO events (order_id, type, dedupe_key) VALUES ?', [
            Array.from({ length: to - from }, (_, n) => [order.order_id, 'address_updated', `k-${from + n}`]),
          ]),
        );
      await add(0, 230);
      const pages = [await viewOf(order)];
      for (let next = pages[0]?.events_next_cursor; next; next = pages.at(-1)?.events_next_cursor)
        pages.push((await views.view(order.order_id, next)) as OrderView);
      expect(pages.map(({ events }) => events.length)).toEqual([100, 100, 32]);
      expect(pages.flatMap(typesOf)).toEqual([
        'order_received',
        'order_validated',
        ...Array(230).fill('address_updated'),
      ]);
      // No page begins behind the last event.
      const remove = () =>
        beside((connection) =>
          connection.query('DELETE FROM events WHERE order_id = ? AND dedupe_key LIKE ?', [order.order_id, 'k-%']),
        );
      await remove();
      await add(0, 98);
      const { events, events_next_cursor } = await viewOf(order);
      expect([events.length, events_next_cursor]).toEqual([100, null]);
      await remove();
    });

    test('it has the newest 100 shipments, oldest first', async () => {
      const order = await orderIn('payment_charged');
      await beside((connection) =>
        connection.query('INSERT INTO shipments (order_id, attempt, status) VALUES ?', [
          Array.from({ length: 120 }, (_, n) => [order.order_id, n + 1, 'failed']),
        ]),
      );
      const { shipments } = await viewOf(order);
      expect(shipments.map(({ attempt }) => attempt)).toEqual(Array.from({ length: 100 }, (_, n) => n + 21));
    });
  });

  describe('list', () => {
    /** Ten orders, newest last, created four per millisecond. */
    async function tenOrders() {
      const fresh = await freshDatabase();
      const there = openDatabase(at === url ? fresh.url : await overGateway(fresh.url));
      const store = createOrderStore(there);
      const ids = Array.from({ length: 10 }, (_, n) => `o-${n}`);
      for (const order_id of ids) await store.receive({ order_id }, { workflow_id: 'w', run_id: 'r' }, null);
      for (const odd of ['o-1', 'o-5']) await store.end(odd, { state: 'expired' }, PROGRESS);
      const created = 'FROM_UNIXTIME(1700000000 + 0.001 * FLOOR(SUBSTR(id, 3) / 4))';
      await beside((connection) => connection.query(`UPDATE orders SET created_at = ${created}`), fresh.url);
      const drop = () => there.close().then(fresh.drop);
      return {
        store,
        newestFirst: ids.reverse(),
        list: createOrderViews(there).list,
        ...createOpenOrders(there),
        drop,
      };
    }

    test.each([1, 3, 4, 5, 10, 11])('returns pages of %i, newest first, each order once', async (limit) => {
      const { list, newestFirst, store, drop } = await tenOrders();
      const seen: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await list({ limit, cursor });
        expect(page.orders.length).toBeLessThanOrEqual(limit);
        seen.push(...page.orders.map((order) => order.order_id));
        cursor = page.next_cursor ?? undefined;
        await store.receive({ order_id: freshId('newer') }, { workflow_id: 'w', run_id: 'r' }, null);
      } while (cursor !== undefined && seen.length < 20);
      expect(seen).toEqual(newestFirst);
      await drop();
    });

    test('filters by state across pages', async () => {
      const { list, drop } = await tenOrders();
      const first = await list({ state: 'expired', limit: 1 });
      const second = await list({ state: 'expired', limit: 1, cursor: first.next_cursor ?? '' });
      expect([first, second].map((page) => page.orders.map((order) => order.order_id))).toEqual([['o-5'], ['o-1']]);
      expect(second.next_cursor).toBeNull();
      expect((await list({ state: 'received', limit: 50 })).orders).toHaveLength(8);
      expect(await list({ state: 'shipped', limit: 50 })).toEqual({ orders: [], next_cursor: null });
      await drop();
    });

    test('of a state gives the orders older than a minute in pages, oldest first, with the time since their last change', async () => {
      const { store, inState, drop } = await tenOrders();
      await store.receive({ order_id: 'young' }, { workflow_id: 'w', run_id: 'r' }, null);
      const seen: Awaited<ReturnType<typeof inState>> = [];
      do seen.push(...(await inState('received', seen.at(-1), 3)));
      while (seen.length % 3 === 0 && seen.length < 20);
      expect(seen.map(({ order_id }) => order_id)).toEqual(['o-0', 'o-2', 'o-3', 'o-4', 'o-6', 'o-7', 'o-8', 'o-9']);
      for (const order of seen) {
        expect(order).toMatchObject({ state: 'received', policy: null, workflow_id: 'w', run_id: 'r' });
        expect(order.idle_ms).toBeGreaterThanOrEqual(0);
        expect(order.idle_ms).toBeLessThan(60_000);
      }
      await drop();
    });

    const moment = '2001-01-01T00:00:00.000Z';
    const whole = btoa(JSON.stringify([moment, 'o-1']));
    test.each([
      '',
      'garbage',
      '%%%',
      '日本',
      btoa(`${moment} o-1`),
      btoa(JSON.stringify([moment])),
      btoa(JSON.stringify(['2001-13-45T00:00:00.000Z', 'o-1'])),
      btoa(JSON.stringify([moment, 'é'])),
      btoa(JSON.stringify([moment, 'o-1', 'o-2'])),
      whole.slice(0, -3),
      whole.slice(4),
      encodeURIComponent(`${whole}==`),
    ])('refuses the cursor "%s", which it did not give', async (cursor) => {
      const refusal = await views.list({ limit: 3, cursor }).catch((error: unknown) => error);
      expect(refusal).toMatchObject({ code: 'INVALID', details: { errors: [{ path: 'cursor' }] } });
      expect(await views.list({ limit: 3, cursor: whole })).toMatchObject({ next_cursor: null });
    });
  });

  describe('attempts', () => {
    const attempts = createAttemptStore(db);
    const recent = async (id: string, limit: number, of = views) => (await of.status(id, limit)).recent;
    const failure = (order_id: string, step: string, attempt: number): AttemptRecord => ({
      order_id,
      step,
      attempt,
      error: `${step} ${attempt}`,
    });

    test('newest first, with the number of failures of the activity that failed last', async () => {
      const [id, other] = [freshId(), freshId()];
      await attempts.add([failure(id, 'charge_payment', 1), failure(other, 'charge_payment', 1)]);
      await attempts.add([1, 2, 3].map((n) => failure(id, 'prepare_package', n)));
      const { errors, failures } = await recent(id, 2);
      expect(errors.map(({ error }) => error)).toEqual(['prepare_package 3', 'prepare_package 2']);
      expect(failures).toBe(3);
      expect((await recent(id, 10)).errors).toHaveLength(4);
      expect(await recent(other, 10)).toMatchObject({ failures: 1 });
    });

    test('none of an order without failures', async () => {
      expect(await recent(freshId(), 10)).toEqual({ errors: [], failures: 0 });
    });

    test('are written in batches of 500, with errors cut to 500 characters', async () => {
      const id = freshId();
      const batch = Array.from({ length: 500 }, (_, n) => failure(id, 'charge_payment', n + 1));
      await attempts.add([...batch, { ...failure(id, 'charge_payment', 501), error: 'é'.repeat(2_000) }]);
      const { errors, failures } = await recent(id, 1);
      expect(errors).toMatchObject([{ attempt: 501, error: 'é'.repeat(500) }]);
      expect(failures).toBe(501);
    });

    test('beyond the newest 100 of an order are dropped, those of other orders are not', async () => {
      const [many, few] = [freshId(), freshId()];
      const failures = (id: string, count: number) =>
        attempts.add(Array.from({ length: count }, (_, n) => failure(id, 'charge_payment', n + 1)));
      await failures(many, 130);
      await failures(few, 100);
      await attempts.dropExcess([many, few, freshId()]);
      await attempts.dropExcess([]);
      const { errors, failures: kept } = await recent(many, 200);
      expect([kept, errors.at(0)?.attempt, errors.at(-1)?.attempt]).toEqual([100, 130, 31]);
      expect(await recent(few, 1)).toMatchObject({ failures: 100 });
    });

    test('are cleaned up by the worker that writes them', async () => {
      const id = freshId();
      await attempts.add(Array.from({ length: 130 }, (_, n) => failure(id, 'charge_payment', n)));
      vi.useFakeTimers({ toFake: ['performance'] });
      onTestFinished(() => void vi.useRealTimers());
      const log = createAttemptLog(attempts, createLogger('silent'));
      vi.advanceTimersByTime(11_000);
      log.record(failure(id, 'charge_payment', 131));
      await expect.poll(async () => (await recent(id, 1)).failures).toBe(100);
    });

    test('older than a week are dropped, chunk by chunk, and no newer ones', async () => {
      const fresh = await freshDatabase();
      const there = openDatabase(at === url ? fresh.url : await overGateway(fresh.url));
      const store = createAttemptStore(there);
      const failures = (id: string, count: number) =>
        store.add(Array.from({ length: count }, (_, n) => failure(id, 'charge_payment', n + 1)));
      await failures('o-old', 1_200);
      await beside((connection) => connection.query('UPDATE attempts SET ts = NOW() - INTERVAL 170 HOUR'), fresh.url);
      await failures('o-new', 10);
      const more: boolean[] = [];
      do more.push(await store.dropOld());
      while (more.at(-1));
      expect(more).toEqual([true, true, false]);
      expect(await recent('o-old', 1, createOrderViews(there))).toMatchObject({ failures: 0 });
      expect(await recent('o-new', 1, createOrderViews(there))).toMatchObject({ failures: 10 });
      await there.close();
      await fresh.drop();
    });
  });

  async function connectionId(session: Session): Promise<number> {
    const id = sql`CONNECTION_ID()`.mapWith(Number);
    const [row] = await session.select({ id }).from(sql`DUAL`);
    return row?.id ?? 0;
  }

  const kill = (id: number) => beside((connection) => connection.query(`KILL ${id}`));

  const lock = (session: Session, { order_id }: StartInput) =>
    session.execute(`SELECT id FROM orders WHERE id = '${order_id}' FOR UPDATE`);

  const countUp = (session: Session, { order_id }: StartInput) =>
    session.execute(`UPDATE orders SET child_attempts = child_attempts + 1 WHERE id = '${order_id}'`);

  const countOf = async ({ order_id }: StartInput) => (await views.find(order_id))?.child_attempts;

  describe('an erasure', () => {
    const erasure = createErasureStore(db);
    const ERASER = { sub: 'jane', via: 'https://login.example.com/' };
    const age = (order: StartInput, days: number) =>
      beside((c) =>
        c.query('UPDATE orders SET updated_at = NOW() - INTERVAL ? DAY WHERE id = ?', [days, order.order_id]),
      );
    async function all<T>(pages: AsyncGenerator<Iterable<T>>): Promise<T[]> {
      const found: T[] = [];
      for await (const page of pages) found.push(...page);
      return found;
    }

    test('of an ended order happens once, under whatever concurrency; that of an open one changes nothing', async () => {
      const [open, ended] = [await orderIn('shipping'), await orderIn('shipped')];
      const before = await everythingOf(open);
      expect(await erasure.erase(open.order_id, ERASER)).toBe('shipping');
      expect(await everythingOf(open)).toEqual(before);
      const { updated_at } = await viewOf(ended);
      const answers = await Promise.all([1, 2, 3].map(() => erasure.erase(ended.order_id, ERASER)));
      expect(answers).toEqual(['shipped', 'shipped', 'shipped']);
      const view = await viewOf(ended);
      expect(view).toMatchObject({ address: null, items: ended.items, payments: [{ status: 'charged' }], updated_at });
      expect(Date.parse(view.erased_at ?? '')).toBeGreaterThan(Date.now() - 60_000);
      expect(view.shipments[0]?.payload).toEqual({ tracking: `TRK-${ended.order_id}` });
      expect(typesOf(view)).toEqual([...HAPPY_EVENTS, 'order_erased']);
      expect(view.events.at(-1)).toMatchObject({ actor: ERASER, payload: null });
    });

    test('is due for every order that ended so many days ago, however many there are, and for no other', async () => {
      const order = await orderIn('shipped');
      const [open, erased] = [await orderIn('shipping'), await orderIn('shipped')];
      await erasure.erase(erased.order_id, ERASER);
      for (const one of [order, open, erased]) await age(one, 91);
      const ids = Array.from({ length: 1_100 }, () => freshId());
      const rows = ids.map((id) => `('${id}', 'expired', 'w', 'r', 'done', NOW() - INTERVAL 91 DAY)`);
      await beside((c) =>
        c.query(`INSERT INTO orders (id, state, workflow_id, run_id, step, updated_at) VALUES ${rows.join(', ')}`),
      );
      expect(new Set(await all(erasure.dueSince(90)))).toEqual(new Set([...ids, order.order_id]));
      expect(await all(erasure.dueSince(92))).toEqual([]);
      await beside((c) => c.query('DELETE FROM orders WHERE id IN (?)', [ids]));
      await age(order, 0);
    });

    test('reaches the texts in the events of erased orders alone, and leaves the chain whole', async () => {
      const [kept, erased] = [await orderIn('approved'), await orderIn('approved')];
      for (const { order_id, payment_id } of [kept, erased])
        await payments.settle(order_id, payment_id, true, { ...CANCELED, reason: 'moved' }, PROGRESS);
      await erasure.erase(erased.order_id, ERASER);
      const found = new Map(await all(erasure.withPersonalEvents()));
      expect([found.get(kept.order_id), found.get(erased.order_id)]).toEqual([undefined, 1]);
      for (const { order_id } of [kept, erased]) await erasure.eraseEvents(order_id);
      expect(await all(erasure.withPersonalEvents())).toEqual([]);
      const [[ofKept], [ofErased]] = (await Promise.all(
        [kept, erased].map(({ order_id }) =>
          beside(async (c) => {
            const ofOrder = "SELECT payload_json FROM events WHERE type = 'order_canceled' AND order_id = ?";
            return (await c.query<RowDataPacket[]>(ofOrder, [order_id]))[0].map((row) => JSON.stringify(row));
          }),
        ),
      )) as [[string], [string]];
      expect(ofKept).toContain('moved');
      expect(ofErased).not.toContain('moved');
      expect(ofErased).toContain('reason_hash');
      const broken = (await trailProblems(db)).map(({ order_id }) => order_id);
      expect(broken.filter((id) => id === kept.order_id || id === erased.order_id)).toEqual([]);
    });
  });

  describe('a transaction is run again', () => {
    /** Runs two transactions that each wait for the other's lock; returns how often they ran. */
    async function deadlock(lockSecond: (tx: Session, order: StartInput) => Promise<unknown>): Promise<number> {
      const [one, other] = [await orderIn('received'), await orderIn('received')];
      const bothHoldOne = Promise.withResolvers<void>();
      let [runs, holding] = [0, 0];
      const locking = (first: StartInput, second: StartInput) =>
        db.transaction(async (tx) => {
          runs += 1;
          await lock(tx, first);
          holding += 1;
          if (holding === 2) bothHoldOne.resolve();
          await bothHoldOne.promise;
          await lockSecond(tx, second);
          await countUp(tx, first);
        });
      await Promise.all([locking(one, other), locking(other, one)]);
      expect([await countOf(one), await countOf(other)]).toEqual([1, 1]);
      return runs;
    }

    test('after it was the victim of a deadlock', async () => {
      expect(await deadlock(lock)).toBe(3);
    });

    // After rolling a transaction back MySQL runs the statements that follow on their own; Vitess rejects them.
    if (at === httpUrl)
      test('after it ignored the error of a deadlock', async () => {
        expect(await deadlock((tx, order) => lock(tx, order).catch(() => undefined))).toBe(3);
      });

    test('when the server timed out waiting for a lock', async () => {
      const order = await orderIn('received');
      const holder = await createConnection(url);
      await holder.query('BEGIN');
      await holder.query('SELECT id FROM orders WHERE id = ? FOR UPDATE', [order.order_id]);
      let runs = 0;
      await db.transaction(async (tx) => {
        runs += 1;
        if (runs === 2) await holder.query('ROLLBACK');
        await tx.execute('SET innodb_lock_wait_timeout = 1');
        await countUp(tx, order);
      });
      await holder.end();
      expect(runs).toBe(2);
      expect(await countOf(order)).toBe(1);
    });

    test('after its connection was killed between two statements', async () => {
      const order = await orderIn('received');
      let runs = 0;
      await db.transaction(async (tx) => {
        runs += 1;
        await countUp(tx, order);
        if (runs === 1) await kill(await connectionId(tx));
        await countUp(tx, order);
      });
      expect(runs).toBe(2);
      expect(await countOf(order)).toBe(2);
    });

    test('after its connection was killed during a statement', async () => {
      const order = await orderIn('received');
      let runs = 0;
      await db.transaction(async (tx) => {
        runs += 1;
        await countUp(tx, order);
        if (runs > 1) return;
        const id = await connectionId(tx);
        await Promise.all([tx.execute('SELECT SLEEP(1.5)'), kill(id)]);
      });
      expect(runs).toBe(2);
      expect(await countOf(order)).toBe(1);
    });

    test('after its connection was killed before the commit', async () => {
      const order = await orderIn('received');
      let runs = 0;
      await db.transaction(async (tx) => {
        runs += 1;
        await countUp(tx, order);
        if (runs === 1) await kill(await connectionId(tx));
      });
      expect(runs).toBe(2);
      expect(await countOf(order)).toBe(1);
    });

    test('after the answer to its commit was lost, and writes nothing twice', async () => {
      const order = await orderIn('received');
      const proxy = await losingOneCommit(at);
      const through = openDatabase(proxy.url);
      await createOrderStore(through).validated(order.order_id, MONEY);
      expect(proxy.lost()).toBe(1);
      expect(typesOf(await viewOf(order))).toEqual(['order_received', 'order_validated']);
      await through.close();
      proxy.close();
    });

    test('but not after an error of its own code', async () => {
      const order = await orderIn('received');
      let runs = 0;
      const failing = db.transaction(async (tx) => {
        runs += 1;
        await countUp(tx, order);
        throw new Error('a bug');
      });
      await expect(failing).rejects.toThrow('a bug');
      expect(runs).toBe(1);
      expect(await countOf(order)).toBe(0);
    });
  });

  describe('a connection killed while idle', () => {
    test.each(['run', 'transaction'] as const)('does not fail the next %s', async (kind) => {
      const single = openDatabase(at);
      for (let round = 0; round < 10; round += 1) {
        const id = await single.run(connectionId);
        await kill(id);
        expect(await single[kind](connectionId)).not.toBe(id);
      }
      await single.close();
    });
  });

  describe('a server that does not answer fails the call', () => {
    /** The client gives up after 2 s; the rest is margin for a busy machine. */
    const BOUND_MS = 3_000;

    async function rejection(call: Promise<unknown>): Promise<{ message: string; after: number }> {
      const start = performance.now();
      const message = await call.then(
        () => 'no rejection',
        (error: DatabaseError) => `${error.message}: ${error.reason}`,
      );
      return { message, after: performance.now() - start };
    }

    async function whileLocked(order: StartInput, work: () => Promise<void>): Promise<void> {
      await beside(async (holder) => {
        await holder.query('BEGIN');
        await holder.query('SELECT id FROM orders WHERE id = ? FOR UPDATE', [order.order_id]);
        await work();
        await holder.query('ROLLBACK');
      });
    }

    test('of a transaction that waits for a locked row, and nothing of it is written', async () => {
      const order = await orderIn('received');
      const before = await everythingOf(order);
      const validated = () => orders.validated(order.order_id, MONEY);
      await whileLocked(order, async () => {
        const { message, after } = await rejection(validated());
        expect(message).toContain('did not answer');
        expect(after).toBeLessThan(BOUND_MS);
      });
      expect(await everythingOf(order)).toEqual(before);
      await validated();
      expect((await viewOf(order)).state).toBe('awaiting_approval');
    });

    test('of a read that waits for a locked table', async () => {
      const order = await orderIn('received');
      await beside(async (holder) => {
        await holder.query('LOCK TABLES orders WRITE');
        const { message, after } = await rejection(views.view(order.order_id));
        expect(message).toContain('did not answer');
        expect(after).toBeLessThan(BOUND_MS);
      });
      expect((await viewOf(order)).state).toBe('received');
    });

    test('of every concurrent caller, also beyond the number of connections', async () => {
      const order = await orderIn('received');
      await whileLocked(order, async () => {
        const calls = Array.from({ length: 60 }, () => rejection(orders.shipped(order.order_id, PROGRESS)));
        expect(Math.max(...(await Promise.all(calls)).map(({ after }) => after))).toBeLessThan(BOUND_MS);
      });
      expect((await viewOf(order)).state).toBe('received');
    });

    test('of work that is tried again: its tries share that time, and the failure before is reported', async () => {
      let tries = 0;
      const deadlocked = db.transaction(async (session) => {
        tries += 1;
        await session.execute('SELECT SLEEP(1.7)');
        throw Object.assign(new Error('Deadlock found'), { errno: 1213, sqlState: '40001' });
      });
      const { message, after } = await rejection(deadlocked);
      expect(message).toContain('Deadlock found');
      expect(after).toBeLessThan(BOUND_MS);
      expect(tries).toBe(2);
    });

    test('when it accepts the connection and sends nothing', async () => {
      const silent = createServer((socket) => socket.on('error', () => socket.destroy()));
      await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
      const address = silent.address();
      const lost = openDatabase(`${scheme}//root@127.0.0.1:${typeof address === 'object' ? address?.port : 0}/x`);
      const { message, after } = await rejection(lost.run(connectionId));
      expect(message).not.toBe('no rejection');
      expect(after).toBeLessThan(BOUND_MS);
      await lost.close();
      silent.close();
    });

    test('at once when the port is closed', async () => {
      const closed = openDatabase(`${scheme}//root@127.0.0.1:1/x`);
      const { message, after } = await rejection(closed.transaction(connectionId));
      expect(message).not.toBe('no rejection');
      expect(after).toBeLessThan(1_000);
      await closed.close();
    });
  });
});

test('both drivers return equal rows of every table, large numbers included', async () => {
  const big = 2 ** 40 + 1;
  const [overMySql, overHttp] = [openDatabase(url), openDatabase(httpUrl)];
  const order = anOrder();
  const store = createOrderStore(overHttp);
  await beside(async (connection) => {
    for (const table of ['events', 'shipments', 'attempts'])
      await connection.query(`ALTER TABLE ${table} AUTO_INCREMENT = ${big}`);
  });
  await store.receive(order, runOf(order), 'hash');
  await store.validated(order.order_id, { amount: '123456789012.34', currency: 'EUR' });
  await createPaymentStore(overHttp).beginCharge(order.order_id, order.payment_id);
  await createPaymentStore(overHttp).charged(order.order_id, order.payment_id);
  await createShipmentStore(overHttp).prepared(order.order_id, 1);
  await createAttemptStore(overHttp).add([{ order_id: order.order_id, step: 's', attempt: 1, error: 'é' }]);
  const book = createParcelBook(overHttp);
  await book.take(order.order_id, order.address, 'TRK');
  await createPaymentBook(overHttp).charge(order.payment_id, order.order_id, MONEY, 'charged');
  const tables = [schema.orders, schema.payments, schema.shipments, schema.events, schema.attempts, schema.capacity];
  for (const table of [...tables, sandboxCharges, sandboxParcels]) {
    const rows = await overMySql.run((session) => session.select().from(table));
    expect(rows.length).toBeGreaterThan(0);
    expect(await overHttp.run((session) => session.select().from(table))).toEqual(rows);
  }
  const [event] = await overHttp.run((session) => session.select().from(schema.events).orderBy(desc(schema.events.id)));
  expect(event?.id).toBeGreaterThan(big);
  await Promise.all([overMySql.close(), overHttp.close()]);
});

test('every chain of events is unbroken, whatever the tests above did, over both drivers', async () => {
  for (const at of [url, httpUrl]) {
    const db = openDatabase(at);
    expect(await trailProblems(db)).toEqual([]);
    await db.close();
  }
});

/** A proxy to the database that drops the response to the first commit. */
async function losingOneCommit(at: string): Promise<{ url: string; lost(): number; close(): void }> {
  if (at.startsWith('mysql:')) {
    const proxy = await openSqlProxy(at);
    proxy.loseCommits(1);
    return { url: proxy.url, lost: () => proxy.lost, close: proxy.close };
  }
  let lost = 0;
  const server = createHttpServer(async (request, response) => {
    const body = await text(request);
    const { authorization = '' } = request.headers;
    const answer = await fetch(new URL(request.url ?? '', new URL(at).origin), {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body,
    });
    if (lost > 0 || JSON.parse(body).query !== 'COMMIT') return response.end(await answer.text());
    lost += 1;
    request.socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = new URL(at);
  url.port = `${(server.address() as AddressInfo).port}`;
  return { url: url.href, lost: () => lost, close: () => void server.close() };
}
