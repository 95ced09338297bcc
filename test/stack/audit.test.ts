/** The audit reports every violation of the money invariant in either side's books, every broken chain of events, and nothing else. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import type { StartInput } from '@trellis/contracts/order';
import type { Progress } from '@trellis/contracts/order-status';
import type { Ending } from '@trellis/contracts/states-and-steps';
import { openDatabase } from '@trellis/drizzle/client';
import type { Database, Session } from '@trellis/drizzle/database';
import { createErasureStore } from '@trellis/drizzle/erasure';
import { createOrderStore } from '@trellis/drizzle/orders';
import { createPaymentStore } from '@trellis/drizzle/payments';
import { audit } from '@trellis/drizzle/sandbox/audit';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox/books';
import { events, payments } from '@trellis/drizzle/schema';
import { createShipmentStore } from '@trellis/drizzle/shipments';
import type { SQL } from 'drizzle-orm';
import { createConnection } from 'mysql2/promise';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { anOrder, freshDatabase, trailProblems } from '../fixtures.ts';
import { need } from '../servers.ts';

const MONEY = { amount: '2.00', currency: 'USD' };
const PROGRESS: Progress = {
  step: 'charge_payment',
  approved: true,
  child_attempts: 0,
  last_error: null,
  dispatch_failed_reason: null,
};

const CHARGE = 'shipped without exactly one charge of its amount';
const PARCEL = 'shipped without exactly one parcel';
const UNSETTLED = 'ended without shipping, money not settled';
const PARCEL_LEFT = 'ended without shipping, but the carrier has a parcel';
const DISAGREE = "our book and the company's disagree";
const REFUNDED = 'refunded by the company, but not in our book';
const STRAY_CHARGE = 'charged, but there is no such order';
const STRAY_PARCEL = 'the carrier has a parcel, but there is no such order';

const { canCreateDatabases } = await need('database');
let books: Awaited<ReturnType<typeof openBooks>>;
beforeEach(async () => {
  books = await openBooks();
});
afterEach(() => books.close());

/** A database of its own with both sides' books, and functions that bring orders into a state. */
async function openBooks() {
  const { db, url, drop } = await freshDatabase();
  const companies = openDatabase(url);
  const [orders, payments, shipments] = [createOrderStore(db), createPaymentStore(db), createShipmentStore(db)];
  const [charges, parcels] = [createPaymentBook(companies), createParcelBook(companies)];

  async function approved(order_id: string): Promise<StartInput> {
    const order = anOrder({ order_id });
    await orders.receive(order, { workflow_id: `order-${order_id}`, run_id: 'run' }, null);
    await orders.validated(order_id, MONEY);
    await payments.beginCharge(order_id, order.payment_id);
    return order;
  }

  async function charged(order_id: string): Promise<StartInput> {
    const order = await approved(order_id);
    await charges.charge(order.payment_id, order_id, MONEY, 'charged');
    await payments.charged(order_id, order.payment_id);
    return order;
  }

  async function dispatched(order_id: string): Promise<StartInput> {
    const order = await charged(order_id);
    await shipments.prepared(order_id, 1);
    await parcels.take(order_id, order.address, 'TRK');
    await shipments.dispatched(order_id, 1, { tracking: 'TRK', address: order.address });
    return order;
  }

  async function refunded(order_id: string, ending: Ending) {
    const { payment_id } = await charged(order_id);
    await parcels.close(order_id);
    await payments.claimForRefund(order_id, payment_id);
    await charges.refund(payment_id, order_id);
    await payments.settle(order_id, payment_id, true, ending, PROGRESS);
  }

  async function declined(order_id: string) {
    const { payment_id } = await approved(order_id);
    await charges.charge(payment_id, order_id, MONEY, 'declined');
    await payments.declined(order_id, payment_id);
    await orders.end(order_id, { state: 'failed', reason: 'PAYMENT_DECLINED' }, PROGRESS);
  }

  async function shipped(order_id: string) {
    await dispatched(order_id);
    await orders.shipped(order_id, { ...PROGRESS, child_attempts: 1 });
  }

  /** One order for every way to end, named by its id. */
  async function everyEnd() {
    await shipped('shipped');
    await shipped('shipped-too');
    await refunded('canceled', { state: 'canceled', reason: 'user_request' });
    await refunded('failed', { state: 'failed', reason: 'CARRIER_REFUSED' });
    await declined('declined');
    await orders.receive(anOrder({ order_id: 'expired' }), { workflow_id: 'order-expired', run_id: 'run' }, null);
    await orders.end('expired', { state: 'expired' }, PROGRESS);
  }

  async function run(statement: string) {
    const connection = await createConnection(url);
    await connection.query(statement).finally(() => connection.end());
  }

  const close = async () => {
    await companies.close();
    await drop();
  };
  return { db, url, audit: () => audit(db), everyEnd, approved, charged, dispatched, shipped, run, close };
}

const chargeOf = (order: string, payment: string, amount = '2.00', currency = 'USD') =>
  `INSERT INTO sandbox_charges (payment_id, order_id, status, amount, currency)
   VALUES ('${payment}', '${order}', 'charged', ${amount}, '${currency}')`;
const paymentOf = (order: string, payment: string, status: string) =>
  `INSERT INTO payments (payment_id, order_id, status, amount, currency)
   VALUES ('${payment}', '${order}', '${status}', 2.00, 'USD')`;
const parcelOf = (order: string) => `INSERT INTO sandbox_parcels (order_id, status) VALUES ('${order}', 'taken')`;
const shipmentOf = (order: string, attempt: number) =>
  `INSERT INTO shipments (order_id, attempt, status) VALUES ('${order}', ${attempt}, 'dispatched')`;

describe('consistent books', () => {
  test('have no violation, with orders in every terminal state', async () => {
    await books.everyEnd();
    expect(await books.audit()).toEqual([]);
  });

  test('have no violation when they are empty', async () => {
    expect(await books.audit()).toEqual([]);
  });

  test('may hold a refunded second charge of an order that shipped', async () => {
    await books.everyEnd();
    await books.run(chargeOf('shipped', 'second').replace("'charged'", "'refunded'"));
    await books.run(paymentOf('shipped', 'second', 'refunded'));
    expect(await books.audit()).toEqual([]);
  });

  test('may disagree about orders that have not ended', async () => {
    await books.everyEnd();
    await books.approved('approved');
    await books.charged('charged');
    await books.dispatched('dispatched');
    await books.run("UPDATE sandbox_charges SET amount = 9 WHERE order_id = 'charged'");
    await books.run("UPDATE payments SET status = 'pending' WHERE order_id = 'dispatched'");
    expect(await books.audit()).toEqual([]);
  });
});

test('orders that are received and charged while the audit reads them are no violation', async () => {
  await books.everyEnd();
  let begun = false;
  const meanwhile = async () => {
    if (!begun) await books.charged('meanwhile');
    begun = true;
  };
  /** Lets `meanwhile` happen between the reading of the orders and of what else is recorded about them. */
  const interrupted = (session: Session) => ({
    select: (fields: never) => ({
      from(table: typeof payments) {
        const query = session.select(fields).from(table);
        if (table !== payments) return query;
        return { where: (condition: SQL) => meanwhile().then(() => query.where(condition)) };
      },
    }),
  });
  const run: Database['run'] = (work, timeoutMs) =>
    books.db.run((session) => work(interrupted(session) as unknown as Session), timeoutMs);
  expect(await audit({ ...books.db, run })).toEqual([]);
  expect(begun).toBe(true);
});

test('every order is audited, however many there are', async () => {
  const ids = Array.from({ length: 2_500 }, (_, n) => `n-${n}`);
  const rows = ids.map((id) => `('${id}', 'shipped', 2, 'USD', 'w', 'r', 'done')`);
  await books.run(
    `INSERT INTO orders (id, state, amount, currency, workflow_id, run_id, step) VALUES ${rows.join(', ')}`,
  );
  for (const stray of ['a', 'n-1x', 'z']) await books.run(parcelOf(stray));
  const found = (await books.audit()).map(({ order_id }) => order_id);
  expect(found).toEqual([...ids.flatMap((id) => [id, id]), 'a', 'n-1x', 'z'].toSorted());
});

test.runIf(canCreateDatabases)(
  'a database without the sandbox’s tables is not audited, and the error names the tables that the audit needs',
  async () => {
    await books.run('DROP TABLE sandbox_charges, sandbox_parcels');
    await expect(books.audit()).rejects.toThrow('those of the product and of the sandbox in one database');
  },
);

describe('the audit reports', () => {
  test.each<[what: string, statement: string, order: string, ...rules: string[]]>([
    ['shipped, never charged', "DELETE FROM sandbox_charges WHERE order_id = 'shipped'", 'shipped', DISAGREE, CHARGE],
    [
      'shipped, the charge refunded by the company',
      "UPDATE sandbox_charges SET status = 'refunded' WHERE order_id = 'shipped'",
      'shipped',
      DISAGREE,
      REFUNDED,
      CHARGE,
    ],
    ['shipped, charged twice', chargeOf('shipped', 'second'), 'shipped', CHARGE],
    [
      'shipped, charged another amount',
      "UPDATE sandbox_charges SET amount = 2.01 WHERE order_id = 'shipped'",
      'shipped',
      DISAGREE,
      CHARGE,
    ],
    [
      'shipped, charged in another currency',
      "UPDATE sandbox_charges SET currency = 'EUR' WHERE order_id = 'shipped'",
      'shipped',
      DISAGREE,
      CHARGE,
    ],
    [
      'shipped, charged no amount at all',
      "UPDATE sandbox_charges SET amount = NULL WHERE order_id = 'shipped'",
      'shipped',
      DISAGREE,
      CHARGE,
    ],
    ['shipped, the order without a price', "UPDATE orders SET amount = NULL WHERE id = 'shipped'", 'shipped', CHARGE],
    ['shipped, the payment not recorded', "DELETE FROM payments WHERE order_id = 'shipped'", 'shipped', CHARGE],
    [
      'shipped, the payment recorded with another amount',
      "UPDATE payments SET amount = 1.99 WHERE order_id = 'shipped'",
      'shipped',
      DISAGREE,
      CHARGE,
    ],
    [
      'shipped, the payment recorded as pending',
      "UPDATE payments SET status = 'pending' WHERE order_id = 'shipped'",
      'shipped',
      CHARGE,
    ],
    ['shipped, a second payment pending', paymentOf('shipped', 'second', 'pending'), 'shipped', CHARGE],
    [
      'shipped, charged under an unknown payment id',
      "UPDATE sandbox_charges SET payment_id = 'strange' WHERE order_id = 'shipped'",
      'shipped',
      DISAGREE,
    ],
    ['shipped, no parcel', "DELETE FROM sandbox_parcels WHERE order_id = 'shipped'", 'shipped', PARCEL],
    [
      'shipped, the carrier’s key closed',
      "UPDATE sandbox_parcels SET status = 'closed' WHERE order_id = 'shipped'",
      'shipped',
      PARCEL,
    ],
    ['shipped, the parcel not recorded', "DELETE FROM shipments WHERE order_id = 'shipped'", 'shipped', PARCEL],
    ['shipped, two parcels recorded', shipmentOf('shipped', 2), 'shipped', PARCEL],
    [
      'canceled, still charged',
      "UPDATE sandbox_charges SET status = 'charged' WHERE order_id = 'canceled'",
      'canceled',
      UNSETTLED,
      DISAGREE,
    ],
    [
      'canceled, the refund not recorded',
      "UPDATE payments SET status = 'charged' WHERE order_id = 'canceled'",
      'canceled',
      UNSETTLED,
      DISAGREE,
      REFUNDED,
    ],
    [
      'canceled, the payment still pending',
      "UPDATE payments SET status = 'pending' WHERE order_id = 'canceled'",
      'canceled',
      UNSETTLED,
      REFUNDED,
    ],
    [
      'canceled, the refund missing in the company’s book',
      "DELETE FROM sandbox_charges WHERE order_id = 'canceled'",
      'canceled',
      DISAGREE,
    ],
    ['canceled, charged again', chargeOf('canceled', 'second'), 'canceled', UNSETTLED],
    [
      'canceled, but the carrier has the parcel',
      "UPDATE sandbox_parcels SET status = 'taken' WHERE order_id = 'canceled'",
      'canceled',
      PARCEL_LEFT,
    ],
    ['canceled, a parcel recorded', shipmentOf('canceled', 1), 'canceled', PARCEL_LEFT],
    [
      'failed, still charged',
      "UPDATE sandbox_charges SET status = 'charged' WHERE order_id = 'failed'",
      'failed',
      UNSETTLED,
      DISAGREE,
    ],
    [
      'declined, but charged',
      "UPDATE sandbox_charges SET status = 'charged' WHERE order_id = 'declined'",
      'declined',
      UNSETTLED,
      DISAGREE,
    ],
    ['declined, but the carrier has a parcel', parcelOf('declined'), 'declined', PARCEL_LEFT],
    ['expired, but charged', chargeOf('expired', 'late'), 'expired', UNSETTLED],
    ['a charge of an unknown order', chargeOf('nobody', 'nobody'), 'nobody', STRAY_CHARGE],
    [
      "shipped, our charge under another payment id than the company's",
      "UPDATE sandbox_charges SET payment_id = 'other' WHERE order_id = 'shipped'",
      'shipped',
      DISAGREE,
    ],
    [
      'canceled, refunded another amount',
      "UPDATE payments SET amount = 1.00 WHERE order_id = 'canceled'",
      'canceled',
      DISAGREE,
    ],
    [
      'canceled, refunded by the company only',
      "DELETE FROM payments WHERE order_id = 'canceled'",
      'canceled',
      REFUNDED,
    ],
    ['a parcel of an unknown order', parcelOf('nobody'), 'nobody', STRAY_PARCEL],
  ])('%s', async (_, statement, order, ...rules) => {
    await books.everyEnd();
    await books.run(statement);
    expect(await books.audit()).toEqual(rules.map((rule) => ({ order_id: order, rule })));
  });

  test("a payment recorded for another order than the company's charge", async () => {
    await books.everyEnd();
    // Not an UPDATE: Vitess moves no row to another shard.
    await books.run("DELETE FROM payments WHERE order_id = 'shipped'");
    await books.run(paymentOf('declined', 'pay-shipped', 'charged'));
    expect(await books.audit()).toEqual([
      { order_id: 'declined', rule: UNSETTLED },
      { order_id: 'declined', rule: DISAGREE },
      { order_id: 'shipped', rule: CHARGE },
    ]);
  });

  test('every order with a violation, sorted by id', async () => {
    await books.everyEnd();
    await books.run("UPDATE sandbox_parcels SET status = IF(status = 'taken', 'closed', 'taken')");
    expect(await books.audit()).toEqual([
      { order_id: 'canceled', rule: PARCEL_LEFT },
      { order_id: 'failed', rule: PARCEL_LEFT },
      { order_id: 'shipped', rule: PARCEL },
      { order_id: 'shipped-too', rule: PARCEL },
    ]);
  });
});

describe('the chain of events', () => {
  const ROOT = fileURLToPath(new URL('../..', import.meta.url));
  const trails = (hashedSince?: string) => trailProblems(books.db, hashedSince);
  /** As a version up to 0.5 wrote it. */
  const unhashed = async (order: string) => {
    await books.run(`UPDATE events SET hash = NULL, salt = NULL WHERE order_id = '${order}'`);
    await books.run(`UPDATE orders SET last_event_hash = NULL WHERE id = '${order}'`);
  };
  const eventOf = (order: string, type: string, hash: string) =>
    `INSERT INTO events (order_id, type, payload_json, dedupe_key, hash) VALUES ('${order}', '${type}', '{}', 'forged', ${hash})`;

  test('is unbroken, with orders in every state and every end', async () => {
    await books.everyEnd();
    await books.approved('approved');
    await books.charged('charged');
    await books.dispatched('dispatched');
    expect(await trails()).toEqual([]);
    const all = await books.db.run((session) => session.select().from(events));
    expect(all.filter(({ hash }) => hash === null)).toEqual([]);
  });

  const MISFIT = 'does not fit the event before it';
  const LAST = 'its last event is not the one that the order names';

  test.each<[what: string, problem: string | RegExp, ...statements: string[]]>([
    ...[
      ['the payload', `payload_json = '{"payment_id":"other"}'`],
      ['no payload', 'payload_json = NULL'],
      ['the actor', `actor_json = '{"sub":"jane","via":"https://login.example.com/"}'`],
      ['no actor', 'actor_json = NULL'],
      ['the type', "type = 'order_expired'"],
      ['the key', "dedupe_key = 'order_approved:2'"],
      ['the hash', "hash = REPEAT('0', 64)"],
    ].map(([what, change]): [string, RegExp, string] => [
      `an event with ${what} changed`,
      new RegExp(MISFIT),
      `UPDATE events SET ${change} WHERE order_id = 'shipped' AND type = 'order_approved'`,
    ]),
    [
      'an event without its hash',
      /\(order_approved\) has no hash$/,
      "UPDATE events SET hash = NULL WHERE order_id = 'shipped' AND type = 'order_approved'",
    ],
    [
      'an event moved behind the others',
      /\(payment_charged\) does not fit/,
      "UPDATE events SET id = id + 100000 WHERE order_id = 'shipped' AND type = 'order_approved'",
    ],
    ...[
      ['first', 'order_received', /\(order_validated\) does not fit/],
      ['fourth', 'payment_charged', /\(package_prepared\) does not fit/],
      ['last', 'order_shipped', LAST],
    ].map(([which, type, problem]): [string, string | RegExp, string] => [
      `the ${which} event deleted`,
      problem as string | RegExp,
      `DELETE FROM events WHERE order_id = 'shipped' AND type = '${type}'`,
    ]),
    ['all events deleted', LAST, "DELETE FROM events WHERE order_id = 'shipped'"],
    ['an event added without a hash', /\(order_canceled\) has no hash$/, eventOf('shipped', 'order_canceled', 'NULL')],
    ['an event added with a hash', MISFIT, eventOf('shipped', 'order_canceled', "REPEAT('a', 64)")],
    [
      'an event added, and named by the order',
      MISFIT,
      eventOf('shipped', 'order_canceled', "REPEAT('a', 64)"),
      "UPDATE orders SET last_event_hash = REPEAT('a', 64) WHERE id = 'shipped'",
    ],
    ['another last event named by the order', LAST, "UPDATE orders SET last_event_hash = NULL WHERE id = 'shipped'"],
    ['the order deleted', 'is of an order that does not exist', "DELETE FROM orders WHERE id = 'shipped'"],
  ])('shows %s', async (_, problem, ...statements) => {
    await books.shipped('other');
    await books.shipped('shipped');
    for (const statement of statements) await books.run(statement);
    expect(await trails()).toEqual([{ order_id: 'shipped', problem: expect.stringMatching(problem) }]);
  });

  test('is checked for every order, however many there are, also for events after the last order', async () => {
    const ids = Array.from({ length: 1_200 }, (_, n) => `n-${n}`);
    const rows = ids.map((id) => `('${id}', 'received', 'w', 'r', 'receive_order', 'x')`);
    await books.run(
      `INSERT INTO orders (id, state, workflow_id, run_id, step, last_event_hash) VALUES ${rows.join(', ')}`,
    );
    for (const stray of ['a', 'n-1x', 'z']) await books.run(eventOf(stray, 'order_received', 'NULL'));
    expect((await trails()).map(({ order_id }) => order_id)).toEqual([...ids, 'a', 'n-1x', 'z'].toSorted());
  });

  test('of an order that moves on while it is read is no problem', async () => {
    await books.charged('moving');
    let moved = false;
    /** Lets the order move on between the reading of the orders and of their events. */
    const interrupted = (session: Session) => ({
      select: (fields: never) => ({
        from(table: typeof events) {
          const query = session.select(fields).from(table);
          if (table !== events || moved) return query;
          moved = true;
          const move = createShipmentStore(books.db).prepared('moving', 1);
          return { where: (condition: SQL) => move.then(() => query.where(condition)) };
        },
      }),
    });
    const run: Database['run'] = (work, timeoutMs) =>
      books.db.run((session) => work(interrupted(session) as unknown as Session), timeoutMs);
    expect(await trailProblems({ ...books.db, run })).toEqual([]);
    expect(moved).toBe(true);
  });

  test('begins in the middle of an order that an earlier version began', async () => {
    await books.shipped('all-old');
    await books.charged('half-old');
    for (const order of ['all-old', 'half-old']) await unhashed(order);
    await createShipmentStore(books.db).prepared('half-old', 1);
    expect(await trails()).toEqual([]);
    await books.run("UPDATE events SET payload_json = '{}' WHERE order_id = 'half-old' AND type = 'package_prepared'");
    expect(await trails()).toMatchObject([{ order_id: 'half-old' }]);
  });

  test('goes on behind what an old worker wrote into it, which counts as unbroken only before the time that the operator names', async () => {
    await books.charged('mixed');
    await books.run(eventOf('mixed', 'package_prepared', 'NULL'));
    await createShipmentStore(books.db).failed('mixed', 1, 'refused');
    const [before, after] = [-1, 1].map((hours) => new Date(Date.now() + hours * 3_600_000).toISOString());
    const broken = [{ order_id: 'mixed', problem: expect.stringMatching(/\(package_prepared\) has no hash$/) }];
    expect(await trails()).toEqual(broken);
    expect(await trails(before)).toEqual(broken);
    expect(await trails(after)).toEqual([]);
    await books.shipped('whole');
    await unhashed('whole');
    expect(await trails(before)).toMatchObject([{ order_id: 'mixed' }, { order_id: 'whole' }]);
  });

  describe('survives the erasure of a text, as prune does it,', () => {
    async function erase(id: string): Promise<void> {
      await books.run(`UPDATE orders SET erased_at = NOW() WHERE id = '${id}'`);
      await createErasureStore(books.db).eraseEvents(id);
    }
    const reasons = () => books.db.run((session) => session.select({ payload: events.payload }).from(events));

    test('and the text is gone', async () => {
      await books.everyEnd();
      const before = JSON.stringify(await reasons());
      expect(before).toContain('user_request');
      await erase('canceled');
      const after = JSON.stringify(await reasons());
      expect(after).not.toContain('user_request');
      expect(after).toContain('reason_hash');
      expect(await trails()).toEqual([]);
    });

    test.each([
      ['another text', `'{"state":"canceled","reason":"other"}'`],
      ['another hash', `'{"state":"canceled","reason_hash":"0"}'`],
      ['no text', `'{"state":"canceled"}'`],
    ])('but not its replacement by %s', async (_, payload) => {
      await books.everyEnd();
      await erase('canceled');
      await books.run(
        `UPDATE events SET payload_json = ${payload} WHERE order_id = 'canceled' AND type = 'order_canceled'`,
      );
      expect(await trails()).toMatchObject([{ order_id: 'canceled' }]);
    });
  });

  test('is what `npm run audit -- --trail` checks', async () => {
    const program = () => {
      const args = [`${ROOT}/drizzle/sandbox/audit.ts`, '--trail'];
      const env = { PATH: process.env.PATH, DATABASE_URL: books.url };
      const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8' });
      return { status, stdout, stderr };
    };
    await books.shipped('one');
    await books.shipped('two');
    expect(program()).toEqual({ status: 0, stdout: 'the trail is unbroken\n', stderr: '' });
    await books.run("DELETE FROM events WHERE order_id = 'two' AND type = 'order_approved'");
    expect(program()).toEqual({
      status: 1,
      stdout: expect.stringMatching(/^two: event \d+ \(payment_charged\) does not .+\n1 broken trails\n$/),
      stderr: '',
    });
  });
});
