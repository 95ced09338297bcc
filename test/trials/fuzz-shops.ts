/** Sends the API the requests of many callers, of two shops and of none, and looks in every answer for what is of another shop. */
import { randomBytes } from 'node:crypto';
import { Agent, request } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeKey, signToken, type TokenClaims } from '@trellis/api/callers/own-keys';
import { createOrdersClient } from '@trellis/client';
import { SCOPE_NAMES, type Scope } from '@trellis/contracts/scopes';
import { AUDIENCE } from '@trellis/local/stack/callers';
import Table from 'cli-table3';
import fc from 'fast-check';
import type { JWK } from 'jose';
import { type FuzzRequest, requestsOf } from './fuzz-requests.ts';

interface Shop {
  /** Empty where there is none. */
  id: string;
  /** In every field of its orders that may hold any text, in its callers' names, and in no request of another shop's callers. */
  secret: string;
}

interface FuzzCaller {
  name: string;
  shop: Shop;
  /** The value of the header; undefined for none. */
  authorization: string | undefined;
  /** False for a token that the API must not accept. */
  known: boolean;
}

export interface ShopsFuzzed {
  /** How many answers of each status each caller got. */
  counts: Map<string, Map<number, number>>;
  /** What is wrong with an answer, and how to repeat its request. */
  failures: string[];
}

const IN_FLIGHT = 16;
/** Requests are generated this many at a time. */
const CHUNK = 500;
/** The run ends once this much is wrong. */
const ENOUGH_FAILURES = 5;
const ANSWERED_WITHIN_MS = 20_000;
const RECORDED_WITHIN_MS = 30_000;
/** Both shops have orders of these ids, and each some of its own. */
const SHARED_IDS = ['o-1', 'o-2', 'o-3'];

/**
 * Sends the API at `url`, which accepts tokens that `key` has signed, `requests` requests. No answer may hold anything of a shop that is not
 * its caller's, none may be a 5xx, and no call of an unknown caller may be served. BUSY is no failure: a caller may make so many calls,
 * and the workers take so many orders. UNAVAILABLE is one: every server is there.
 */
export async function fuzzShops(
  url: string,
  { key, requests, seed }: { key: JWK; requests: number; seed: number },
): Promise<ShopsFuzzed> {
  const run = randomBytes(4).toString('hex');
  const shops = ['left', 'right'].map((name) => ({ id: `${name}-${run}`, secret: `secret-of-${name}-${run}` }));
  const [left, right] = shops as [Shop, Shop];
  const none: Shop = { id: '', secret: `secret-of-none-${run}` };
  const ownIds = ({ id }: Shop) => [`${id}-1`, `${id}-2`];
  for (const shop of shops) await fillShop(url, key, shop, [...SHARED_IDS, ...ownIds(shop)]);

  const callers = (await Promise.all([left, right, none].map((shop) => callersOf(key, shop, shops)))).flat();
  const ids = [...SHARED_IDS, ...shops.flatMap(ownIds), 'o-9'];
  const arbitraries = new Map(
    [left, right, none].map((shop) => [
      shop,
      requestsOf({ secret: shop.secret, ids, shops: shops.map(({ id }) => id) }),
    ]),
  );
  const agent = new Agent({ keepAlive: true, maxSockets: IN_FLIGHT });
  const counts: ShopsFuzzed['counts'] = new Map();
  const failures: string[] = [];
  const ownSeen = new Set<Shop>();

  async function send(caller: FuzzCaller, sent: FuzzRequest): Promise<void> {
    const { status, text } = await answerTo(url, agent, caller, sent);
    const ofCaller = counts.get(caller.name) ?? new Map<number, number>();
    counts.set(caller.name, ofCaller.set(status, (ofCaller.get(status) ?? 0) + 1));
    if (text.includes(caller.shop.secret) && status === 200) ownSeen.add(caller.shop);
    // CORS: a browser asks without a token.
    const isPreflight = sent.method === 'OPTIONS' && status === 204;
    const wrong = [
      ...(status === 0 ? [`no answer: ${text}`] : []),
      ...(status >= 500 ? ['a server error'] : []),
      ...(caller.known || status >= 300 || status === 0 || isPreflight ? [] : ['an unknown caller is served']),
      ...shops.filter((shop) => shop !== caller.shop && text.includes(shop.secret)).map(() => 'another shop’s data'),
    ];
    if (wrong.length === 0) return;
    const body = sent.body && ` ${sent.body.toString('base64')} (base64)`;
    failures.push(
      `${caller.name}: ${wrong.join(', ')}\n${sent.method} ${sent.path} ${JSON.stringify(sent.headers)}${body ?? ''}\n${status} ${text.slice(0, 500)}`,
    );
  }

  for (let begun = 0; begun < requests && failures.length < ENOUGH_FAILURES; begun += CHUNK) {
    const chunk = fc.sample(
      fc.constantFrom(...callers).chain((caller) => {
        const arbitrary =
          arbitraries.get(caller.shop) ?? fc.constant({ method: 'GET', path: '/', headers: {}, body: undefined });
        return arbitrary.map((sent) => ({ caller, sent }));
      }),
      { numRuns: Math.min(CHUNK, requests - begun), seed: seed + begun },
    );
    const sending = Array.from({ length: IN_FLIGHT }, async () => {
      for (let next = chunk.pop(); next; next = chunk.pop()) await send(next.caller, next.sent);
    });
    await Promise.all(sending);
  }
  agent.destroy();
  // Else there was nothing to find.
  for (const shop of shops)
    if (!ownSeen.has(shop)) failures.push(`no answer held anything of ${shop.id}, not even to its own callers`);
  return { counts, failures };
}

/** A row for each caller, with the number of its answers of each status. */
export function tableOf({ counts }: ShopsFuzzed): string {
  const statuses = [...new Set([...counts.values()].flatMap((ofCaller) => [...ofCaller.keys()]))].toSorted(
    (a, b) => a - b,
  );
  const table = new Table({ head: ['caller', ...statuses.map(String)], style: { head: [], border: [] } });
  for (const [caller, ofCaller] of [...counts].toSorted())
    table.push([caller, ...statuses.map((status) => `${ofCaller.get(status) ?? ''}`)]);
  return table.toString();
}

/** Starts orders of a shop, approves one of them and cancels the others, and waits until all are recorded. */
async function fillShop(url: string, key: JWK, { id: shop, secret }: Shop, ids: string[]): Promise<void> {
  const clientOf = async (sub: string) => {
    const claims = { scopes: SCOPE_NAMES, shop, audience: AUDIENCE, expires: '1h' };
    return createOrdersClient(url, { token: await signToken(key, { sub: `${sub}-${secret}`, ...claims }) });
  };
  const [starter, approver] = [await clientOf('starter'), await clientOf('approver')];
  const address = { line1: secret, city: 'Chicago', name: secret };
  const end = Date.now() + RECORDED_WITHIN_MS;
  const untilDone = async <T>(act: () => Promise<T>): Promise<T> => {
    for (;;)
      try {
        return await act();
      } catch (error) {
        // A busy machine admits the order a little later.
        if (Date.now() > end) throw error;
        await sleep(200);
      }
  };
  for (const [n, order_id] of ids.entries()) {
    const items = [{ sku: `${secret}`, qty: 1 }];
    await untilDone(() => starter.start.mutate({ order_id, payment_id: `${order_id}-${secret}`, address, items }));
    await untilDone(() => starter.get.query({ order_id }).then((order) => order.address ?? Promise.reject(order)));
    const decided =
      n === 0
        ? approver.signal.approve.mutate({ order_id })
        : starter.signal.cancel.mutate({ order_id, reason: secret });
    // On a busy machine the order may have expired.
    await decided.catch(() => undefined);
  }
}

/** The callers of a shop: those that it has, and those whose token the API must not accept. */
async function callersOf(key: JWK, shop: Shop, shops: Shop[]): Promise<FuzzCaller[]> {
  const sign = (given: Partial<TokenClaims> & { sub: string }, by = key) =>
    signToken(by, {
      scopes: SCOPE_NAMES,
      audience: AUDIENCE,
      expires: '2h',
      ...(shop.id !== '' && { shop: shop.id }),
      ...given,
      sub: `${given.sub}-${shop.secret}`,
    });
  const place = shop.id === '' ? 'no shop' : shop.id.replace(/-.*/, ' shop');
  const roles: Record<string, readonly Scope[]> = {
    'every scope': SCOPE_NAMES,
    checkout: ['orders:start', 'orders:read'],
    office: ['orders:read', 'orders:read:personal', 'orders:list', 'orders:change'],
    approver: ['orders:read', 'orders:read:personal', 'orders:list', 'orders:approve'],
  };
  const known = Object.entries(roles).map(async ([name, scopes]) => ({
    name,
    token: await sign({ sub: name, scopes }),
  }));
  const oneOrder = { name: 'one order', token: await sign({ sub: 'customer', order: SHARED_IDS[0] }) };
  const token = await sign({ sub: 'every scope' });
  const [head = '', claims = '', signature = ''] = token.split('.');
  const other = shops.find(({ id }) => id !== shop.id)?.id;
  const unsigned = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const moved = unsigned({
    ...JSON.parse(Buffer.from(claims, 'base64url').toString()),
    shop: other,
    scope: SCOPE_NAMES.join(' '),
  });
  const unknown: Record<string, string | undefined> = {
    'no token': undefined,
    'no signature': `Bearer ${head}.${claims}.`,
    'another signature': `Bearer ${head}.${claims}.${signature.replace(/^./, (first) => (first === 'A' ? 'B' : 'A'))}`,
    'moved to the other shop': `Bearer ${head}.${moved}.${signature}`,
    'alg none': `Bearer ${unsigned({ alg: 'none', typ: 'at+jwt' })}.${claims}.`,
    'signed by another key': `Bearer ${await sign({ sub: 'every scope' }, await makeKey())}`,
    expired: `Bearer ${await sign({ sub: 'every scope', expires: '-1h' })}`,
    'for another audience': `Bearer ${await sign({ sub: 'every scope', audience: 'elsewhere' })}`,
    'another scheme': `Basic ${token}`,
    'two tokens': `Bearer ${token} ${token}`,
    'no JWT': `Bearer ${'x'.repeat(2_000)}`,
  };
  return [
    ...[...(await Promise.all(known)), oneOrder].map(({ name, token }) => ({
      name: `${place}, ${name}`,
      shop,
      authorization: `Bearer ${token}`,
      known: true,
    })),
    // Of one shop they show as much as of each.
    ...(shop === shops[0] ? Object.entries(unknown) : []).map(([name, authorization]) => ({
      name: `unknown, ${name}`,
      shop,
      authorization,
      known: false,
    })),
  ];
}

/** The status and the whole text of the answer; status 0 and the reason when there is none. */
function answerTo(
  url: string,
  agent: Agent,
  { authorization }: FuzzCaller,
  { method, path, headers, body }: FuzzRequest,
): Promise<{ status: number; text: string }> {
  const { hostname, port } = new URL(url);
  const all = { ...headers, ...(authorization && { authorization }), ...(body && { 'content-length': body.length }) };
  return new Promise((resolve) => {
    const fail = (error: Error) => resolve({ status: 0, text: error.message });
    const signal = AbortSignal.timeout(ANSWERED_WITHIN_MS);
    request({ hostname, port, method, path, headers: all, agent, signal }, (answer) => {
      const headersText = Object.entries(answer.headers).join('\n');
      buffer(answer).then(
        (bytes) => resolve({ status: answer.statusCode ?? 0, text: `${headersText}\n${bytes}` }),
        fail,
      );
    })
      .on('error', fail)
      .end(body);
  });
}
