/** Who may call what: every caller's answers are those of the table in docs/callers.md, on both runtimes, over REST and tRPC. */
import { readFileSync } from 'node:fs';
import { createOrdersClient, orderErrorOf } from '@trellis/client';
import type { StartInput } from '@trellis/contracts/order';
import { SCOPE_NAMES } from '@trellis/contracts/scopes';
import { generateKeyPair, importJWK, SignJWT, UnsecuredJWT } from 'jose';
import { OAuth2Server } from 'oauth2-mock-server';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import { need } from '../servers.ts';

const { apis, key, issuer } = await need('apis');
const GUARDED = apis.filter(({ tokens }) => tokens !== undefined);

const ours = await importJWK(key, 'Ed25519');
const { privateKey: unknown } = await generateKeyPair('Ed25519');
const EVERY_SCOPE = SCOPE_NAMES.join(' ');

interface Claims {
  sub?: string;
  shop?: string;
  scope?: string;
  order?: string;
  amr?: string[];
}

/** A valid token of a person of the shop `acme`, unless it says otherwise. */
const claims = (given: Claims = {}) => ({ sub: 'jane', shop: 'acme', scope: EVERY_SCOPE, amr: ['pwd'], ...given });

/** A token that is not signed yet. */
function jwt(given: Claims = {}, { iss = 'trellis-orders', aud = 'trellis-orders', exp = '5m' as string | null } = {}) {
  const token = new SignJWT(claims(given)).setProtectedHeader({ alg: 'Ed25519', kid: key.x ?? '' });
  token.setIssuer(iss).setAudience(aud).setIssuedAt();
  return exp === null ? token : token.setExpirationTime(exp);
}
const token = (given: Claims = {}) => jwt(given).sign(ours);

/** The token of each caller of the table; `order` is the order that the calls are about. */
const CALLERS: Record<string, (order: StartInput) => Promise<string | undefined> | string | undefined> = {
  'no token': () => undefined,
  'an expired token': () => jwt({}, { exp: '-11s' }).sign(ours),
  'a token without exp': () => jwt({}, { exp: null }).sign(ours),
  'a token of an unknown issuer': () => jwt({}, { iss: 'https://elsewhere.example' }).sign(ours),
  'a token for another audience': () => jwt({}, { aud: 'another-api' }).sign(ours),
  'a token signed with an unknown key': () => jwt().sign(unknown),
  'a token without a signature': () =>
    new UnsecuredJWT(claims())
      .setIssuer('trellis-orders')
      .setAudience('trellis-orders')
      .setExpirationTime('5m')
      .encode(),
  'no scope': () => token({ scope: '' }),
  ...Object.fromEntries(SCOPE_NAMES.map((scope) => [scope, () => token({ scope })])),
  'a program with every scope': () => token({ amr: [] }),
  "the order's starter with every scope": () => token({ sub: 'starter' }),
  'every scope, another shop': () => token({ shop: 'other' }),
  'every scope, no shop': () => token({ shop: '' }),
  'every scope, this order': ({ order_id }) => token({ order: order_id }),
  'every scope, another order': () => token({ order: 'o-another' }),
  'every scope, every shop': () => token({ shop: '*' }),
  'every scope, every shop, another order': () => token({ shop: '*', order: 'o-another' }),
};

const CALLS = ['start', 'status', 'get', 'list', 'cancel', 'address', 'approve', 'erase'] as const;
type Call = (typeof CALLS)[number];

const TABLE = rowsOfTable();

/** The rows of the table in the document, by caller. */
function rowsOfTable(): Map<string, string[]> {
  const text = readFileSync(new URL('../../docs/callers.md', import.meta.url), 'utf8');
  const [, section = ''] = text.split('\n## Who gets which answer\n');
  const rows = [...(section.split('\n## ')[0] ?? '').matchAll(/^\| (.*) \|$/gm)].map(([, row = '']) =>
    row.split(' | ').map((cell) => cell.replaceAll('`', '')),
  );
  const [head = [], , ...others] = rows;
  expect(head.slice(1)).toEqual([...CALLS]);
  return new Map(others.map(([caller = '', ...cells]) => [caller, cells]));
}

const MARKS: Record<string, string> = { UNAUTHENTICATED: '401', FORBIDDEN: '403', NOT_FOUND: '404' };
/** None of them says anything about who called. */
const SERVED = [undefined, 'TOO_LATE', 'TOO_EARLY', 'ORDER_CONFLICT'];
const markOf = (code: string | undefined) => (SERVED.includes(code) ? 'yes' : (MARKS[code ?? ''] ?? code));

/** One caller's road to one API: sends a call and returns the code of the error, if it was refused. */
type Road = (call: Call, order: StartInput, orderId: string) => Promise<string | undefined>;

const ADDRESS = { line1: '1 New', city: 'Rome' };

function rest(url: string, bearer: string | undefined): Road {
  const headers: Record<string, string> = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` };
  const requests: Record<Call, (order: StartInput, id: string) => [path: string, body?: object]> = {
    start: ({ order_id, ...body }) => [`/orders/${order_id}/start`, body],
    status: (_, id) => [`/orders/${id}/status`],
    get: (_, id) => [`/orders/${id}`],
    list: () => ['/orders'],
    cancel: (_, id) => [`/orders/${id}/signals/cancel`, {}],
    address: (_, id) => [`/orders/${id}/signals/address`, { address: ADDRESS }],
    approve: (_, id) => [`/orders/${id}/signals/approve`, {}],
    erase: (_, id) => [`/orders/${id}/erase`, {}],
  };
  return async (call, order, id) => {
    const [path, body] = requests[call](order, id);
    const sent = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
    const answer = await fetch(url + path, { ...sent, headers });
    const { code } = (await answer.json()) as { code?: string };
    expect(answer.headers.get('www-authenticate')).toBe(answer.status === 401 ? 'Bearer' : null);
    return code;
  };
}

function trpc(url: string, bearer: string | undefined): Road {
  const orders = createOrdersClient(url, bearer === undefined ? {} : { token: bearer });
  const calls: Record<Call, (order: StartInput, order_id: string) => Promise<unknown>> = {
    start: (order) => orders.start.mutate(order),
    status: (_, order_id) => orders.status.query({ order_id }),
    get: (_, order_id) => orders.get.query({ order_id }),
    list: () => orders.list.query({}),
    cancel: (_, order_id) => orders.signal.cancel.mutate({ order_id }),
    address: (_, order_id) => orders.signal.updateAddress.mutate({ order_id, address: ADDRESS }),
    approve: (_, order_id) => orders.signal.approve.mutate({ order_id }),
    erase: (_, order_id) => orders.erase.mutate({ order_id }),
  };
  return async (call, order, id) => {
    const error = await calls[call](order, id).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    const refused = orderErrorOf(error);
    if (error !== undefined && refused === undefined) throw error;
    return refused?.code;
  };
}

const ROADS = { REST: rest, tRPC: trpc };

/** A new order of the shop `acme` that waits for its review. */
async function inReview(url: string): Promise<StartInput> {
  const order = anOrder();
  const starter = createOrdersClient(url, { token: () => token({ sub: 'starter' }) });
  await starter.start.mutate(order);
  await eventually(async () => (await starter.status.query(order)).step === 'awaiting_approval');
  return order;
}

test('the table has every caller', () => {
  expect([...TABLE.keys()].toSorted()).toEqual(Object.keys(CALLERS).toSorted());
});

describe.each(GUARDED)('$name', ({ url }) => {
  describe.each(Object.keys(ROADS) as (keyof typeof ROADS)[])('over %s', (name) => {
    test.each([...TABLE])('%s', async (caller, cells) => {
      const order = await inReview(url);
      const road = ROADS[name](url, await CALLERS[caller]?.(order));
      const id = caller.includes('every shop') ? `acme~${order.order_id}` : order.order_id;
      const answers: Record<string, string | undefined> = {};
      // Approving comes before what would end the review, starting last: another shop's is an order of its own. The table's order does not matter.
      for (const call of ['approve', 'status', 'get', 'list', 'address', 'cancel', 'erase', 'start'] as const)
        answers[call] = markOf(await road(call, order, id));
      expect(CALLS.map((call) => answers[call])).toEqual(cells);
    });
  });

  test('two shops use the same ids, and neither sees anything of the other', async () => {
    const order = anOrder();
    const shops = ['acme', 'other'].map((shop) => {
      const of = (sub: string) => createOrdersClient(url, { token: () => token({ sub, shop }) });
      return { shop, starter: of('starter'), approver: of('approver') };
    });
    for (const { starter, approver, shop } of shops) {
      const started = await starter.start.mutate({ ...order, address: { line1: shop, city: 'Chicago' } });
      expect(started.workflow_id).toBe(`order-${shop}~${order.order_id}`);
      await eventually(async () => (await starter.status.query(order)).step === 'awaiting_approval');
      await approver.signal.approve
        .mutate(order, { context: { idempotencyKey: 'the same key' } })
        .catch(() => undefined);
      await approver.signal.approve.mutate(order, { context: { idempotencyKey: 'the-same-key' } });
    }
    for (const { starter, shop } of shops) {
      await eventually(async () => (await starter.status.query(order)).state === 'shipped');
      const { order_id, payment_id } = order;
      const view = await starter.get.query(order);
      expect(view).toMatchObject({ order_id, payment_id, address: { line1: shop }, payments: [{ payment_id }] });
      const { orders } = await starter.list.query({ limit: 200 });
      expect(orders.filter((one) => one.order_id === order_id)).toMatchObject([{ payment_id }]);
      const text = JSON.stringify([view, orders, await starter.status.query(order)]);
      expect(text).not.toContain(shop === 'acme' ? 'other~' : 'acme~');
    }
  });

  test('every event names who did it, as the token said', async () => {
    const order = await inReview(url);
    const of = (sub: string) => createOrdersClient(url, { token: () => token({ sub }) });
    await of('clerk').signal.updateAddress.mutate({ ...order, address: ADDRESS });
    await of('jane').signal.approve.mutate(order);
    await eventually(async () => (await of('jane').status.query(order)).state === 'shipped');
    const { events } = await of('jane').get.query(order);
    const actors = Object.fromEntries(events.map(({ type, actor }) => [type, actor]));
    const person = (sub: string) => ({ sub, shop: 'acme', via: 'trellis-orders' });
    const worker = { sub: 'trellis-orders', via: 'worker' };
    expect(actors).toEqual({
      order_received: person('starter'),
      order_validated: worker,
      address_updated: person('clerk'),
      order_approved: person('jane'),
      payment_charged: worker,
      package_prepared: worker,
      carrier_dispatched: worker,
      order_shipped: worker,
    });
    const approved = events.find(({ type }) => type === 'order_approved');
    expect(Date.parse(approved?.payload?.approved_at ?? '')).toBeLessThanOrEqual(Date.parse(approved?.ts ?? ''));
  });

  test('a key is its caller’s own: that of another caller is another command', async () => {
    const order = await inReview(url);
    const of = (sub: string) => createOrdersClient(url, { token: () => token({ sub }) });
    const context = { idempotencyKey: freshId('key') };
    await of('squatter').signal.updateAddress.mutate({ ...order, address: ADDRESS }, { context });
    expect(await of('jane').signal.approve.mutate(order, { context })).toMatchObject({ changed: true });
  });

  describe('tokens of another issuer', () => {
    const idp = new OAuth2Server();
    beforeAll(async () => {
      await idp.issuer.keys.generate('RS256');
      await idp.start(Number(new URL(issuer).port), '127.0.0.1');
      idp.issuer.url = issuer;
    });
    afterAll(() => idp.stop().catch(() => undefined));

    const issued = (given: Claims = {}, aud = 'trellis-orders') =>
      idp.issuer.buildToken({
        scopesOrTransform: (_header, payload) => Object.assign(payload, claims(given), { aud }),
      });
    const codeOf = async (bearer: string) => rest(url, bearer)('list', anOrder(), '');

    test('are accepted by the keys that it publishes', async () => {
      expect(await codeOf(await issued())).toBeUndefined();
      expect(await codeOf(await issued({}, 'another-api'))).toBe('UNAUTHENTICATED');
      expect(await codeOf(await issued({ scope: 'orders:read' }))).toBe('FORBIDDEN');
    });
  });
});
