/** Text of every script is stored as it was sent, whatever character set the database was created with. */
import { readFile } from 'node:fs/promises';
import { createAttemptStore } from '@trellis/drizzle/attempts';
import { migrate } from '@trellis/drizzle/migrate';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { createPaymentStore } from '@trellis/drizzle/payments';
import { audit } from '@trellis/drizzle/sandbox/audit';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox/books';
import * as sandboxSchema from '@trellis/drizzle/sandbox/schema';
import * as schema from '@trellis/drizzle/schema';
import { createShipmentStore } from '@trellis/drizzle/shipments';
import { getTableColumns, getTableName } from 'drizzle-orm';
import type { MySqlTable } from 'drizzle-orm/mysql-core';
import { createConnection } from 'mysql2/promise';
import { describe, expect, onTestFinished, test } from 'vitest';
import { anOrder, freshDatabase } from '../fixtures.ts';

const TEXT = 'changed my mind 😢 気が変わりました 𝔘𝔫𝔦𝔠𝔬𝔡𝔢';
const MONEY = { amount: '2.00', currency: 'EUR' };
const CHARSETS = ['latin1', 'utf8mb3', 'utf8mb4 COLLATE utf8mb4_unicode_ci'];

/** A database of this character set with the schema of version 0.3.0, and an order that this version has canceled. */
async function databaseOf030(charset: string) {
  const { url, db, drop } = await freshDatabase();
  onTestFinished(drop);
  const connection = await createConnection({ uri: url, multipleStatements: true });
  onTestFinished(() => connection.end());
  const { pathname } = new URL(url);
  const name = pathname.slice(1);
  await connection.query(`DROP DATABASE ${name}; CREATE DATABASE ${name} CHARACTER SET ${charset}; USE ${name}`);
  const applied: [folder: string, tag: string, record: string][] = [
    ['migrations', '0000_initial', '__drizzle_migrations'],
    ['migrations', '0001_capacity', '__drizzle_migrations'],
    ['sandbox/migrations', '0000_sandbox', '__drizzle_migrations_sandbox'],
  ];
  for (const [folder, tag, record] of applied) {
    const read = (path: string) => readFile(new URL(`../../drizzle/${folder}/${path}`, import.meta.url), 'utf8');
    await connection.query((await read(`${tag}.sql`)).replaceAll('--> statement-breakpoint', ''));
    const { entries } = JSON.parse(await read('meta/_journal.json')) as { entries: { tag: string; when: number }[] };
    await connection.query(
      `CREATE TABLE IF NOT EXISTS ${record} (id serial primary key, hash text not null, created_at bigint);
       INSERT INTO ${record} (hash, created_at) VALUES ('', ?)`,
      [entries.find((entry) => entry.tag === tag)?.when],
    );
  }
  await connection.query(
    `INSERT INTO orders (id, state, step, workflow_id, run_id, cancel_reason)
      VALUES ('o-old', 'canceled', 'awaiting_approval', 'w', 'r', 'Rücktritt')`,
  );
  return { url, db };
}

describe.each(CHARSETS)('in a database created with the character set %s', (charset) => {
  test('version 0.3.0’s rows are kept, and orders with text of every script are paid, refunded and canceled, or ship', async () => {
    const { url, db } = await databaseOf030(charset);
    await migrate(url);
    const [orders, payments, shipments] = [createOrderStore(db), createPaymentStore(db), createShipmentStore(db)];
    const [attempts, views] = [createAttemptStore(db), createOrderViews(db)];
    const [charges, parcels] = [createPaymentBook(db), createParcelBook(db)];
    const address = { line1: TEXT, city: TEXT, [TEXT]: TEXT };

    /** Up to the failure of its first shipping attempt. */
    async function paid() {
      const order = anOrder({ address: { ...address, city: 'Chicago' }, items: [{ sku: TEXT, qty: 2 }] });
      const { order_id, payment_id } = order;
      // 1,000 bytes, as long as Temporal allows.
      await orders.receive(order, { workflow_id: '😀'.repeat(250), run_id: order_id }, null);
      await orders.validated(order_id, MONEY);
      await orders.changeAddress(order_id, address, 'c-1');
      await payments.beginCharge(order_id, payment_id);
      await charges.charge(payment_id, order_id, MONEY, 'charged');
      await payments.charged(order_id, payment_id);
      await shipments.prepared(order_id, 1);
      await attempts.add([{ order_id, step: 'dispatch_carrier', attempt: 1, error: TEXT }]);
      await shipments.failed(order_id, 1, TEXT);
      return order;
    }
    const progress = {
      step: 'shipping_child',
      approved: true,
      child_attempts: 1,
      last_error: TEXT.repeat(5_000),
      dispatch_failed_reason: TEXT.repeat(5_000),
    } as const;

    const canceled = await paid();
    await parcels.close(canceled.order_id);
    await charges.refund(canceled.payment_id, canceled.order_id);
    const ending = { state: 'canceled', reason: TEXT } as const;
    expect(await payments.settle(canceled.order_id, canceled.payment_id, true, ending, progress)).toBe('canceled');
    expect(await views.view(canceled.order_id)).toMatchObject({
      ...{ state: 'canceled', reason: TEXT, address, items: canceled.items },
      payments: [{ status: 'refunded', ...MONEY }],
    });
    const row = await views.find(canceled.order_id);
    expect(row?.workflow_id).toBe('😀'.repeat(250));
    for (const text of [row?.last_error, row?.dispatch_failed_reason]) expect(text?.startsWith(TEXT)).toBe(true);
    expect((await views.status(canceled.order_id, 1)).recent.errors).toMatchObject([{ error: TEXT }]);
    expect((await views.view('o-old'))?.reason).toBe('Rücktritt');

    const shipped = await paid();
    const { tracking } = await parcels.take(shipped.order_id, address, `TRK-${'x'.repeat(64)}`);
    await shipments.dispatched(shipped.order_id, 1, { tracking: tracking ?? '', address });
    expect(await orders.shipped(shipped.order_id, progress)).toBe('shipped');
    expect(await views.view(shipped.order_id)).toMatchObject({ shipments: [{ payload: { address, tracking } }] });
    expect((await views.list({ limit: 5, state: 'shipped' })).orders).toMatchObject([{ order_id: shipped.order_id }]);
    expect(await audit(db)).toEqual([]);
  });
});

test('every column with text names its character set', () => {
  const tables: MySqlTable[] = [...Object.values(schema), ...Object.values(sandboxSchema)];
  const columns = tables.flatMap((table) =>
    Object.values(getTableColumns(table)).map(
      (column) => `${getTableName(table)}.${column.name} ${column.getSQLType()}`,
    ),
  );
  const texts = columns.filter((column) => / (varchar|text)/.test(column));
  expect(texts.length).toBeGreaterThan(30);
  expect(
    texts.filter((column) => !/ CHARACTER SET (utf8mb4( COLLATE utf8mb4_bin)?|ascii COLLATE ascii_bin)$/.test(column)),
  ).toEqual([]);
});
