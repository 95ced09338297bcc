/** Orders cost what the price list of their shop says when they are validated, whatever it says later. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Connection } from '@temporalio/client';
import { signToken } from '@trellis/api/callers/own-keys';
import { createPriceCheck } from '@trellis/api/orders/price-check';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { createOrdersClient } from '@trellis/client';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import type { StartInput } from '@trellis/contracts/order';
import { requestHash } from '@trellis/contracts/request-hash';
import { SCOPE_NAMES } from '@trellis/contracts/scopes';
import { openDatabase } from '@trellis/drizzle/client';
import { createPriceStore } from '@trellis/drizzle/prices';
import { AUDIENCE } from '@trellis/local/stack/callers';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { anOrder, eventually, freshId, importLines } from '../fixtures.ts';
import { need } from '../servers.ts';
import { apiOn, sharedTestbed } from '../workflow-fixture.ts';

const { apis, key, DATABASE_URL, TEMPORAL_ADDRESS } = await need('apis', 'database', 'temporal');
const bed = await sharedTestbed();
const owner = openDatabase(bed.databaseUrl);
const folder = await mkdtemp(join(tmpdir(), 'prices-'));
afterAll(async () => {
  await owner.close();
  await rm(folder, { recursive: true });
});

const freshShop = () => freshId('shop');
const PAST = '2020-01-01T00:00:00.000Z';

test('while a shop has no list, its starts ask the database for it once in some seconds', async () => {
  let statements = 0;
  const run: typeof owner.run = (...given) => {
    statements += 1;
    return owner.run(...given);
  };
  const check = createPriceCheck(createPriceStore({ ...owner, run }));
  const [shop, other] = [freshShop(), freshShop()];
  await importLines(owner, ['A,1,EUR,'], other);
  for (let n = 0; n < 3; n += 1) expect(await check(shop, [{ sku: 'B', qty: 1 }])).toEqual([]);
  expect(statements).toBe(1);
  const unknown = [{ path: 'items.0.sku', message: 'is not in the price list' }];
  expect(await check(other, [{ sku: 'B', qty: 1 }])).toEqual(unknown);
});

/** Runs `npm run prices -- ARGS` on a file with these lines. */
async function run(url: string, csv: string, ...args: string[]) {
  const file = join(folder, `${freshId()}.csv`);
  await writeFile(file, csv);
  const program = fileURLToPath(new URL('../../drizzle/import-prices.ts', import.meta.url));
  const options = { env: { PATH: process.env.PATH, DATABASE_URL: url }, cwd: folder };
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [program, ...args, file], options, (error, stdout, stderr) =>
      resolve({ code: Number(error?.code ?? 0), stdout, stderr: stderr.replaceAll(file, 'FILE') }),
    );
  });
}

test('`npm run prices` names the line and the field of every mistake, and then changes nothing', async () => {
  const shop = freshShop();
  const wrong = `sku,amount,currency,valid_from\nA,1,EUR,\nB,one,EUR,\nC,1,EUR,yesterday\n`;
  const { code, stdout, stderr } = await run(bed.databaseUrl, wrong, '--shop', shop);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^FILE:3: amount: .+\nFILE:4: valid_from: .+\nnothing was changed\n$/);
  const past = await run(
    bed.databaseUrl,
    `sku,amount,currency,valid_from\nA,1,EUR,\nB,1,EUR,${PAST}\n`,
    '--shop',
    shop,
  );
  expect(past).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^FILE:3: valid_from: .+\nnothing was changed\n$/),
  });
  expect(await createPriceStore(owner).of(shop, ['A'])).toBeUndefined();
  expect(await run('mysql://nobody:secret@127.0.0.1:1/x', 'sku,amount,currency\nA,1,EUR\n')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^DATABASE_URL \(127\.0\.0\.1:1\): .+\n$/),
  });
});

describe('an order', () => {
  test('ships for its price, although the list has changed between its start and its charge', async () => {
    const [A, B] = [freshId('sku'), freshId('sku')];
    await importLines(owner, [`${A},10.05,EUR,`, `${B},0.10,EUR,`]);
    const order = anOrder({
      items: [
        { sku: A, qty: 3 },
        { sku: B, qty: 1 },
      ],
    });
    const placed = await bed.place(order, { args: [{ ...order, policy: 'production' }] });
    await eventually(async () => (await placed.row().catch(() => undefined))?.state === 'awaiting_approval');
    await importLines(owner, [`${A},99,EUR,`, `${B},99,USD,`]);
    await placed.update('approve');
    expect(await placed.end()).toBe('shipped');
    const { amount, currency, payments, events } = await placed.view();
    expect({ amount, currency }).toEqual({ amount: '30.25', currency: 'EUR' });
    expect(payments).toMatchObject([{ status: 'charged', amount: '30.25', currency: 'EUR' }]);
    expect(events.find(({ type }) => type === 'order_validated')?.payload).toEqual({
      amount: '30.25',
      currency: 'EUR',
      unit_amounts: ['10.05', '0.10'],
    });
  });

  test('that was started is answered as before when an item has left the list, also before a worker has recorded it', async () => {
    await importLines(owner, [`${freshId('sku')},1,EUR,`]);
    const connection = Connection.lazy({ address: TEMPORAL_ADDRESS });
    onTestFinished(() => connection.close());
    // The worker of this server writes to another database.
    const temporal = createGrpcTemporal(createTemporalClient(connection));
    const { order_id, ...body } = anOrder();
    const started = await temporal.start({ order_id, ...body }, await requestHash({ order_id, ...body }));
    const api = apiOn(bed, temporal);
    const again = await api.post(`/orders/${order_id}/start`, body);
    expect(await again.json()).toEqual({ workflow_id: `order-${order_id}`, ...started });
    const { order_id: fresh, ...other } = anOrder();
    expect((await api.post(`/orders/${fresh}/start`, other)).status).toBe(422);
  });

  test('of a caller of Temporal ends as invalid when an item is not in the list, or costs another currency', async () => {
    const [A, B] = [freshId('sku'), freshId('sku')];
    await importLines(owner, [`${A},1,EUR,`, `${B},1,USD,`]);
    const items = [A, 'not listed', B].map((sku) => ({ sku, qty: 1 }));
    const placed = await bed.place(anOrder({ items }));
    expect(await placed.end()).toBe('failed');
    const { reason, amount, events } = await placed.view();
    expect({ reason, amount }).toEqual({ reason: 'INVALID_ORDER', amount: null });
    expect(events.at(-1)?.payload?.detail).toBe(
      'items.1.sku: is not in the price list; items.2.sku: costs USD, other items EUR',
    );
  });
});

describe.each(apis.filter(({ tokens }) => tokens))('$name', ({ url }) => {
  /** A caller of this shop, of a subject of its own. */
  const callerOf = (shop: string, sub: string) =>
    createOrdersClient(url, {
      token: () => signToken(key, { sub, shop, scopes: SCOPE_NAMES, audience: AUDIENCE, expires: '5m' }),
    });

  test('an order ships for the price of its shop’s list, and one with an item that is not in it is refused at once', async () => {
    const shop = freshShop();
    const [starter, decider] = [callerOf(shop, 'starter'), callerOf(shop, 'decider')];
    const list = 'sku,amount,currency\nABC,1980,JPY\nDEF,7,JPY\nGBP,1,GBP\n';
    const { code, stdout, stderr } = await run(DATABASE_URL, list, '--shop', shop);
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout: 'prices: 3 added, 0 replaced, 0 unchanged\n',
      stderr: '',
    });

    const of = (...skus: string[]): StartInput => anOrder({ items: skus.map((sku) => ({ sku, qty: 2 })) });
    for (const skus of [
      ['ABC', 'XYZ'],
      ['ABC', 'GBP'],
    ]) {
      const refused = starter.start.mutate(of(...skus));
      await expect(refused).rejects.toMatchObject({ data: { code: 'INVALID', errors: [{ path: 'items.1.sku' }] } });
    }
    const { order_id, ...body } = of('XYZ');
    const token = await signToken(key, {
      sub: 'starter',
      shop,
      scopes: SCOPE_NAMES,
      audience: AUDIENCE,
      expires: '5m',
    });
    const rest = await fetch(`${url}/orders/${order_id}/start`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
      body: JSON.stringify(body),
    });
    expect(rest.status).toBe(422);
    expect(await rest.json()).toMatchObject({
      code: 'INVALID',
      errors: [{ path: 'items.0.sku', message: 'is not in the price list' }],
    });
    await expect(starter.get.query({ order_id })).rejects.toMatchObject({ data: { code: 'NOT_FOUND' } });

    const order = of('ABC', 'DEF');
    await starter.start.mutate(order);
    await eventually(async () => (await starter.status.query(order)).state === 'awaiting_approval');
    await decider.signal.approve.mutate({ order_id: order.order_id });
    const shipped = await eventually(async () => {
      const view = await starter.get.query({ order_id: order.order_id });
      return view.state === 'shipped' && view;
    });
    expect(shipped).toMatchObject({ amount: '3974.00', currency: 'JPY', payments: [{ amount: '3974.00' }] });
  });
});
