import { readConfig, Variables } from '@trellis/contracts/config/variables';
import { ERRORS } from '@trellis/contracts/error';
import { movesForward, STATES } from '@trellis/contracts/lifecycle';
import { OrderInput, problemsOf, StartInput } from '@trellis/contracts/order';
import { requestHash } from '@trellis/contracts/request-hash';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';

/** What the original service's README posts, with the id from the path. */
const ORIGINAL = {
  order_id: 'o-1234',
  payment_id: 'pay-o-1234',
  address: { line1: '123 Main', city: 'Chicago' },
  items: [{ sku: 'ABC', qty: 1 }],
};

const problems = (input: unknown) => {
  const parsed = v.safeParse(StartInput, input);
  return parsed.success ? [] : problemsOf(parsed.issues).map(({ path }) => path);
};

describe('an order', () => {
  test('is accepted as the original service accepts it', () => {
    expect(v.parse(StartInput, ORIGINAL)).toEqual(ORIGINAL);
  });

  test('loses the keys that nobody knows', () => {
    const given = { ...ORIGINAL, note: 'ring twice', items: [{ sku: 'ABC', qty: 1, color: 'red' }] };
    expect(v.parse(StartInput, given)).toEqual(ORIGINAL);
  });

  test('keeps every line of its address', () => {
    const address = { line1: '1 Rue', line2: 'étage 2', city: 'Zürich', zip: '8001' };
    expect(v.parse(StartInput, { ...ORIGINAL, address }).address).toEqual(address);
  });

  test('counts characters as its JSON Schema does, not halves of them', () => {
    expect(problems({ ...ORIGINAL, items: [{ sku: '🪴'.repeat(64), qty: 1 }] })).toEqual([]);
    expect(problems({ ...ORIGINAL, items: [{ sku: '🪴'.repeat(65), qty: 1 }] })).toEqual(['items.0.sku']);
  });

  test('may not choose its own policy', () => {
    expect(v.parse(StartInput, { ...ORIGINAL, policy: 'production' })).not.toHaveProperty('policy');
    expect(v.parse(OrderInput, { ...ORIGINAL, policy: 'production' }).policy).toBe('production');
  });

  test.each([
    ['order_id', { order_id: 'a/b' }],
    ['order_id', { order_id: '' }],
    ['order_id', { order_id: 'x'.repeat(65) }],
    ['payment_id', { payment_id: 'pay 1' }],
    ['payment_id', { payment_id: undefined }],
    ['address', { address: null }],
    ['address.city', { address: { line1: '1 Main' } }],
    ['address.line1', { address: { line1: '', city: 'Chicago' } }],
    ['address.zip', { address: { ...ORIGINAL.address, zip: 60601 } }],
    ['address.line2', { address: { ...ORIGINAL.address, line2: 'x'.repeat(201) } }],
    [
      'address',
      {
        address: Object.fromEntries([
          ['line1', 'a'],
          ['city', 'b'],
          ...Array.from({ length: 19 }, (_, n) => [`k${n}`, 'v']),
        ]),
      },
    ],
    ['items', { items: null }],
    ['items', { items: [] }],
    ['items', { items: Array.from({ length: 101 }, () => ORIGINAL.items[0]) }],
    ['items.0.qty', { items: [{ sku: 'ABC', qty: 0 }] }],
    ['items.0.qty', { items: [{ sku: 'ABC', qty: 1.5 }] }],
    ['items.0.qty', { items: [{ sku: 'ABC', qty: '1' }] }],
    [
      'items.1.qty',
      {
        items: [
          { sku: 'ABC', qty: 1 },
          { sku: 'DEF', qty: 10_001 },
        ],
      },
    ],
    ['items.0.sku', { items: [{ sku: 'x'.repeat(65), qty: 1 }] }],
  ])('is refused with the path of the failing field: %s %#', (path, wrong) => {
    expect(problems({ ...ORIGINAL, ...wrong })).toEqual([path]);
  });
});

describe('the request hash', () => {
  test('is the same for the same order, whatever the order of its keys', async () => {
    const shuffled = {
      items: [{ qty: 1, sku: 'ABC' }],
      address: { city: 'Chicago', line1: '123 Main' },
      payment_id: 'pay-o-1234',
      order_id: 'o-1234',
    };
    expect(await requestHash(shuffled)).toBe(await requestHash(ORIGINAL));
  });

  test('does not count the policy', async () => {
    expect(await requestHash({ ...ORIGINAL, policy: 'production' } as StartInput)).toBe(await requestHash(ORIGINAL));
  });

  test.each([
    { items: [{ sku: 'ABC', qty: 2 }] },
    { items: [...ORIGINAL.items, ...ORIGINAL.items] },
    { address: { line1: '123 Main', city: 'Boston' } },
    { payment_id: 'pay-2' },
  ])('differs for another order: %j', async (other) => {
    expect(await requestHash({ ...ORIGINAL, ...other })).not.toBe(await requestHash(ORIGINAL));
  });
});

test('a state is only ever replaced by a later one, and an end by nothing', () => {
  const forward = STATES.flatMap((from) => STATES.filter((to) => movesForward(from, to)).map((to) => `${from}>${to}`));
  expect(forward).toContain('received>shipping');
  expect(forward).toContain('approved>canceled');
  expect(forward.filter((move) => /^(shipped|canceled|expired|failed)>/.test(move))).toEqual([]);
  expect(forward).not.toContain('shipping>approved');
});

test('an error can be tried again exactly when it passes by itself', () => {
  const retryable = Object.entries(ERRORS).flatMap(([code, { retryable }]) => (retryable ? [code] : []));
  expect(retryable).toEqual(['BUSY', 'UNAVAILABLE']);
});

describe('configuration', () => {
  const Config = v.object({ DATABASE_URL: Variables.DATABASE_URL, PORT: Variables.PORT });

  test.each([
    ['DATABASE_URL is not set', {}],
    ['DATABASE_URL is not set', { DATABASE_URL: '' }],
    ['DATABASE_URL must start with mysql://', { DATABASE_URL: 'postgres://x' }],
    ['PORT must be a port number', { DATABASE_URL: 'mysql://x', PORT: 'http' }],
  ])('fails in one line that names the variable: %s', (line, env) => {
    expect(() => readConfig(Config, env)).toThrow(line);
  });
});
