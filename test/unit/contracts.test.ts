import { createHash } from 'node:crypto';
import { readConfig, Variables } from '@trellis/contracts/config/variables';
import { ERRORS, OrderError } from '@trellis/contracts/error';
import { OrderInput, OrderView, problemsOf, StartInput } from '@trellis/contracts/order';
import { isRequestHash, requestHash } from '@trellis/contracts/request-hash';
import { movesForward, STATES } from '@trellis/contracts/states-and-steps';
import * as v from 'valibot';
import { describe, expect, expectTypeOf, test } from 'vitest';

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

  test('loses unknown keys', () => {
    const given = { ...ORIGINAL, note: 'ring twice', items: [{ sku: 'ABC', qty: 1, color: 'red' }] };
    expect(v.parse(StartInput, given)).toEqual(ORIGINAL);
  });

  test('keeps every line of its address', () => {
    const address = { line1: '1 Rue', line2: 'étage 2', city: 'Zürich', zip: '8001' };
    expect(v.parse(StartInput, { ...ORIGINAL, address }).address).toEqual(address);
  });

  test('is refused without its values, which may be personal; what is missing is said to be', () => {
    const address = { line1: 5_550_100, city: 'x'.repeat(201), name: null };
    const given = { ...ORIGINAL, payment_id: undefined, address, items: [{ sku: 'secret', qty: 'secret' }] };
    const parsed = v.safeParse(StartInput, given);
    expect(parsed.success ? [] : problemsOf(parsed.issues)).toEqual([
      { path: 'payment_id', message: 'Invalid type: Expected string but received undefined' },
      { path: 'address.line1', message: 'Invalid type: Expected string but received another value' },
      { path: 'address.city', message: 'must have 1 to 200 characters' },
      { path: 'address.name', message: 'Invalid type: Expected string but received null' },
      { path: 'items.0.qty', message: 'Invalid type: Expected number but received another value' },
    ]);
    const low = v.safeParse(StartInput, { ...ORIGINAL, items: [{ sku: 'ABC', qty: -5 }] });
    expect(low.success ? [] : problemsOf(low.issues)).toEqual([
      { path: 'items.0.qty', message: 'Invalid value: Expected >=1 but received another value' },
    ]);
  });

  test('counts code points, as its JSON Schema does, not UTF-16 units', () => {
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

describe('a recorded order', () => {
  const at = '2026-01-01T12:00:00.000Z';
  const view = {
    order_id: 'o-1',
    state: 'failed',
    payment_id: null,
    amount: null,
    currency: null,
    reason: 'INVALID_ORDER',
    created_at: at,
    updated_at: at,
    erased_at: null,
    address: null,
    items: null,
    payments: [],
    shipments: [],
    events: [],
    events_next_cursor: null,
  };

  test('that was started without a single valid field is readable', () => {
    expect(v.parse(OrderView, view)).toEqual(view);
  });

  test('is returned unchanged, even where today’s schema would refuse it', () => {
    const address = { line1: '', city: 'x'.repeat(300), zip: 60601, lines: ['a'] };
    const recorded = {
      ...view,
      address,
      items: [{ sku: '', qty: 0, color: 'red' }, null],
      shipments: [
        { attempt: 1, status: 'failed', payload: { address: [], weight: 2 }, ts: at },
        { attempt: 2, status: 'failed', payload: null, ts: at },
        { attempt: 3, status: 'dispatched', payload: { tracking: null }, ts: at },
      ],
      events: [
        { type: 'package_prepared', payload: { attempt: 1, address, weight: 2 }, actor: null, ts: at },
        { type: 'package_prepared', payload: { attempt: '1', state: 'lost' }, actor: { sub: 1 }, ts: at },
        { type: 'order_failed', payload: 'by hand', actor: 'somebody', ts: at },
      ],
    };
    expect(v.parse(OrderView, recorded)).toEqual(recorded);
  });
});

describe('the request hash', () => {
  test('does not depend on the sequence of the keys', async () => {
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
    expect(await isRequestHash(await requestHash(ORIGINAL), { ...ORIGINAL, ...other })).toBe(false);
  });

  test('covers a field that is added to the schema, and is unchanged while that field is absent', async () => {
    const Wider = v.object({ ...StartInput.entries, note: v.optional(v.string()) });
    const hash = (given: object) => requestHash(v.parse(Wider, { ...ORIGINAL, ...given }), Wider);
    expect(await hash({ note: 'ring twice' })).not.toBe(await hash({}));
    expect(await hash({})).toBe(await requestHash(ORIGINAL));
  });

  // Computed with version 0.2.0.
  test.each<[what: string, hash: string, other: Partial<StartInput>]>([
    ['the original body', 'f846f473d1eeff04f7a8f3b324b96ca73ad6cbbb4e2fff37a5fd2717828d0ff5', {}],
    [
      'accents',
      '1e816a878cded13ae0a366ef557956f5e306063089c9d9898c8ec925b75f58be',
      { address: { line1: '1 Rue', line2: 'étage 2', city: 'Zürich', zip: '8001' } },
    ],
    [
      'accented and composed keys',
      'd6ab8bb4a5b858323b44067f24fabc638f244fd7c84b60ec4b188fa5b42372f8',
      { address: { line1: 'a', city: 'b', é: '1', 'e\u0301': '2', z: '3' } },
    ],
    [
      'keys beyond the basic plane',
      '0b3805c1f1b89d369afe61f22bb2fb74fd175aa8a026c8075a0589deba0b1af9',
      { address: { line1: 'a', city: 'b', '\ufb33': '1', '\ud83d\ude00': '2', '€': '3' } },
    ],
    [
      'emoji in a value',
      '9936181f413585918a5f469d9fdfeb6233f62c12488862c06826b23f99f255b8',
      { items: [{ sku: '🪴', qty: 3 }] },
    ],
    [
      'escapes',
      '76e058cd4bb1af609ee3606b2d8fee222b3f0b17ddb35934e5fdd97400ab5b3b',
      { address: { line1: 'a"b\\c/d', city: '\u0000\u001f\n\t\u007f\u2028' } },
    ],
    [
      'upper and lower case keys',
      '1ee78c207bf7beddc1d91d5d58b727114553734a48836b1583fcfc3a04c76eaf',
      { address: { line1: 'a', city: 'b', Zip: '1', zip: '2', ZIP: '3' } },
    ],
    [
      'an empty key',
      'b85e738cf1ea8a7d250203f2876f09a5a59c44b77f753797d8b4edb9d45079f1',
      { address: { line1: 'a', city: 'b', '': 'x' } },
    ],
    [
      'keys of one digit',
      'ea569bcb661d95e0cf12b8ae575ea3cfc3a75e8fd48b1106ff8c111de2e0aeaf',
      { address: { line1: 'a', city: 'b', 2: 'x', 1: 'y' } },
    ],
    [
      'the largest quantity',
      'dd262afccc067b540089b3a4f0a983cc6f22088c48323202188d283cf86da18c',
      {
        items: [
          { sku: 'A', qty: 10000 },
          { sku: 'B', qty: 1 },
        ],
      },
    ],
    [
      'items in another order',
      '33123b096ba628b2c7653cac5d48a733bb1355944f7078f4080d0eea7179f589',
      {
        items: [
          { sku: 'B', qty: 1 },
          { sku: 'A', qty: 10000 },
        ],
      },
    ],
    [
      'integer keys of different lengths',
      '01b8cfd3a1990c14286ae2b968922d2790fac89b2eb3298bd8b3d90881c44560',
      { address: { line1: 'a', city: 'b', 10: 'x', 9: 'y' } },
    ],
    [
      'an integer key and a key that sorts before digits',
      '74c58485cc08f066d6a8bc440e60cbe7f398aa60fb8114217f48053f25abb73d',
      { address: { line1: 'a', city: 'b', 5: 'x', '#': 'y' } },
    ],
  ])('of version 0.2.0 still matches: %s', async (_, hash, other) => {
    expect(await isRequestHash(hash, v.parse(StartInput, { ...ORIGINAL, ...other }))).toBe(true);
  });

  test('is that of the canonical JSON of RFC 8785', async () => {
    const address = { line1: 'a', city: 'b', 10: 'x', 9: 'y' };
    const canonical =
      '{"address":{"10":"x","9":"y","city":"b","line1":"a"},"items":[{"qty":1,"sku":"ABC"}],"order_id":"o-1234","payment_id":"pay-o-1234"}';
    const digest = createHash('sha256').update(canonical).digest('hex');
    expect(await requestHash({ ...ORIGINAL, address })).toBe(digest);
  });
});

test('a state is only ever replaced by a later one, and a terminal state never', () => {
  const forward = STATES.flatMap((from) => STATES.filter((to) => movesForward(from, to)).map((to) => `${from}>${to}`));
  expect(forward).toContain('received>shipping');
  expect(forward).toContain('approved>canceled');
  expect(forward.filter((move) => /^(shipped|canceled|expired|failed)>/.test(move))).toEqual([]);
  expect(forward).not.toContain('shipping>approved');
});

test('only transient errors are retryable', () => {
  const retryable = Object.entries(ERRORS).flatMap(([code, { retryable }]) => (retryable ? [code] : []));
  expect(retryable).toEqual(['BUSY', 'UNAVAILABLE']);
});

test('an error carries the details of its code', () => {
  expect(new OrderError('TOO_LATE', 'too late', { state: 'shipped' }).details).toEqual({ state: 'shipped' });
  expect(new OrderError('NOT_FOUND', 'not found').details).toEqual({});
  // @ts-expect-error TOO_LATE needs the state that forbids the command
  expectTypeOf(() => new OrderError('TOO_LATE', 'too late')).toBeFunction();
  // @ts-expect-error INVALID needs the fields
  expectTypeOf(() => new OrderError('INVALID', 'invalid', {})).toBeFunction();
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
