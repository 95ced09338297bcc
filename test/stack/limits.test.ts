/** Whatever the API accepts works to the end: each limit of the contracts, through the whole life of an order, over every way to start one. */
import { MAX_REASON_LENGTH } from '@trellis/contracts/commands';
import { Address, type StartInput } from '@trellis/contracts/order';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { accepted, createShopper, type Shopper } from '@trellis/local/shopper';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';
import { type Api, need } from '../servers.ts';

const { apis } = await need('apis');

const ID_CHARACTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-';
/** Ids of 64 characters; two neighbouring ones have all the allowed characters. */
const idOf = (n: number, characters = ID_CHARACTERS) => (characters.slice(n) + characters.slice(0, n)).slice(0, 64);

const PRINTABLE = Array.from({ length: 0x7e - 0x20 }, (_, n) => String.fromCharCode(0x21 + n)).join('');
const KEY = `${PRINTABLE}${PRINTABLE}`.slice(0, 128);
const REASON = [...'気が変わりました 😢 "𝔘" '.repeat(30)].slice(0, MAX_REASON_LENGTH).join('');

const ODD_NAMES = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  '',
  ' ',
  '0',
  '"',
  "'",
  '`',
  '\\',
  '\u0000\n',
  '$.a[0]',
  'null',
  '😀',
];

/** 20 fields, one with the longest value, one with the longest name, and in all as many bytes as an address may have. */
function addressOf(city: string, fill: string): Address {
  const address = (rest: number) =>
    Object.fromEntries([
      ['line1', '字'.repeat(200)],
      ['city', city],
      ...ODD_NAMES.map((name) => [name, `${name} \\"${fill}`]),
      ['k'.repeat(200), fill],
      ['x', fill.repeat(Math.min(rest, 200))],
      ['y', fill.repeat(Math.max(0, rest - 200))],
    ]) as Address;
  let rest = 0;
  while (v.is(Address, address(rest + 1))) rest += 1;
  return address(rest);
}

const ROADS = apis.flatMap((api, index) =>
  (['http', 'trpc'] as const).map((via, n) => ({ name: api.name, api, via, n: 2 * index + n })),
);

describe.concurrent('an order at every limit', () => {
  test.for(ROADS)('ships from $via of $name, all of it stored as it was sent', async ({ api, via, n }, { expect }) => {
    const shopper = shopperOf(api, via);
    const order = orderOf(n, 'Chicago');
    await start(shopper, order);
    const address = addressOf('C'.repeat(10), 'z');
    expect(await shopper.command(order.order_id, 'address', { address }, { key: KEY })).toMatchObject({
      changed: true,
    });
    expect(await shopper.command(order.order_id, 'approve', {}, { key: KEY.slice(1) })).toMatchObject({
      changed: true,
    });
    const { events, shipments, payments, ...view } = await ended(shopper, order);
    expect(view).toMatchObject({ ...order, address, state: 'shipped', amount: '1000000.00' });
    expect(fieldsOf(view.address)).toEqual(fieldsOf(address));
    expect(payments).toMatchObject([{ payment_id: order.payment_id, status: 'charged', amount: '1000000.00' }]);
    expect(shipments).toMatchObject([{ status: 'dispatched', payload: { address } }]);
    expect(shipments[0]?.payload?.tracking).toContain(order.order_id);
    expect(JSON.stringify(events)).not.toContain('line1');
  });

  test.for(ROADS)('is canceled and refunded from $via of $name, for the reason that was sent', async ({ api, via, n }, {
    expect,
  }) => {
    const shopper = shopperOf(api, via);
    const order = orderOf(ROADS.length + n, 'Unreachable');
    await start(shopper, order);
    expect(await shopper.command(order.order_id, 'approve', {}, { key: KEY })).toMatchObject({ changed: true });
    await eventually(async () => (await shopper.status(order.order_id)).dispatch_failed_reason !== null);
    const sent = await shopper.command(order.order_id, 'cancel', { reason: REASON }, { key: KEY.slice(1) });
    expect(sent).toMatchObject({ changed: true });
    const { events, payments, ...view } = await ended(shopper, order);
    expect(view).toMatchObject({ ...order, state: 'canceled', reason: REASON });
    expect(fieldsOf(view.address)).toEqual(fieldsOf(order.address));
    expect(payments).toMatchObject([{ payment_id: order.payment_id, status: 'refunded', amount: '1000000.00' }]);
    expect(events.at(-1)?.payload).toMatchObject({ reason: REASON });
    expect(await shopper.status(order.order_id)).toMatchObject({ cancel_reason: REASON });
  });
});

/** One caller starts the order, and another decides it. */
const shopperOf = ({ url, tokens }: Api, via: 'http' | 'trpc') =>
  createShopper(url, {
    via,
    tokens: tokens && {
      checkout: tokens.starting,
      office: tokens.deciding,
      approver: tokens.deciding,
    },
  });

/** Sorted, as databases sort them in ways of their own; with `__proto__`, which a comparison of objects may skip. */
const fieldsOf = (address: object | null) => Object.entries(address ?? {}).toSorted();

function orderOf(n: number, city: string): StartInput {
  return {
    order_id: idOf(n),
    payment_id: idOf(n, [...ID_CHARACTERS].reverse().join('')),
    address: addressOf(city, 'x'),
    items: Array.from({ length: 100 }, () => ({ sku: '🧺'.repeat(64), qty: 10_000 })),
  };
}

async function start(shopper: Shopper, order: StartInput): Promise<void> {
  accepted(await shopper.start(order));
  await eventually(async () => (await shopper.status(order.order_id)).step === 'awaiting_approval');
}

const ended = (shopper: Shopper, { order_id }: StartInput) =>
  eventually(async () => {
    const order = await shopper.get(order_id);
    return order !== undefined && isTerminal(order.state) && order;
  });

describe('one more than the limit is refused', () => {
  const address = addressOf('Chicago', 'x');
  const item = { sku: 'ABC', qty: 1 };
  const STARTS: [what: string, change: Partial<StartInput>][] = [
    ['the order id', { order_id: `${idOf(0)}x` }],
    ['the payment id', { payment_id: `${idOf(0)}x` }],
    ['the bytes of the address', { address: { ...address, line1: `${address.line1.slice(1)}xxxx` } }],
    [
      'the fields of the address',
      {
        address: Object.fromEntries([
          ...Object.entries(anOrder().address),
          ...Array.from({ length: 19 }, (_, n) => [`f${n}`, '']),
        ]) as Address,
      },
    ],
    ['a name in the address', { address: { ...anOrder().address, ['k'.repeat(201)]: '' } }],
    ['a value in the address', { address: { ...anOrder().address, state: '😀'.repeat(201) } }],
    ['the items', { items: Array.from({ length: 101 }, () => item) }],
    ['a sku', { items: [{ ...item, sku: '🧺'.repeat(65) }] }],
    ['a quantity', { items: [{ ...item, qty: 10_001 }] }],
  ];

  describe.each(apis)('$name', (api) => {
    test.each(STARTS)('%s', async (_, change) => {
      for (const via of ['http', 'trpc'] as const)
        expect(await shopperOf(api, via).start(anOrder(change))).toMatchObject({ code: 'INVALID' });
    });

    test('the reason and the idempotency key', async () => {
      const order = anOrder();
      for (const via of ['http', 'trpc'] as const) {
        const shopper = shopperOf(api, via);
        const cancel = { reason: `${REASON}x` };
        expect(await shopper.command(order.order_id, 'cancel', cancel)).toMatchObject({ code: 'INVALID' });
        expect(await shopper.command(order.order_id, 'approve', {}, { key: `${KEY}x` })).toMatchObject({
          code: 'INVALID',
        });
      }
    });
  });
});
