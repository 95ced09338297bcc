/** The codec endpoint decrypts payloads for staff and for nobody else, and the access log says for whom and of which orders. */
import { randomBytes } from 'node:crypto';
import { makeKey, publicKeyOf, signToken } from '@trellis/api/callers/own-keys';
import type { Call } from '@trellis/api/http/access-log';
import { createApp } from '@trellis/api/http/app';
import { codecRoute } from '@trellis/api/http/codec';
import type { Failure } from '@trellis/api/http/failure';
import { createHttpTemporal } from '@trellis/api/temporal/http';
import { type AuthConfig, PROGRAMS, readConfig } from '@trellis/contracts/config/variables';
import { OrderError } from '@trellis/contracts/error';
import { createEncryption, type Encryption, type WrappedKey } from '@trellis/contracts/payload-codec';
import type { Scope } from '@trellis/contracts/scopes';
import { orderWorkflowId } from '@trellis/contracts/temporal';
import { openApiStores } from '@trellis/drizzle/api-stores';
import { openDatabase } from '@trellis/drizzle/client';
import { describe, expect, onTestFinished, test } from 'vitest';
import { AUTH_OFF } from '../fixtures.ts';

const UI = 'https://temporal.example';
const SHOP_PAGE = 'https://shop.example';
const LIMIT = 1024 * 1024;

const signingKey = await makeKey();
const AUTH_ON: AuthConfig = {
  AUTH: 'on',
  AUTH_PUBLIC_KEYS: [publicKeyOf(signingKey)],
  AUTH_AUDIENCE: 'trellis-orders',
};

interface JsonPayload {
  metadata: Record<string, string>;
  data: string;
}

const base64 = (text: string | Uint8Array) => Buffer.from(text).toString('base64');
const json = (value: unknown): JsonPayload => ({
  metadata: { encoding: base64('json/plain') },
  data: base64(JSON.stringify(value)),
});

/** Encrypts for orders, whose keys it keeps in memory. `isDown`: the database fails. */
function encryption() {
  const rows = new Map<string, WrappedKey>();
  const database = { isDown: false };
  const found = createEncryption(
    { ENCRYPTION_KEYS: [`k1:${randomBytes(32).toString('base64url')}`], ENCRYPT: 'on' },
    {
      async find(orderId) {
        if (database.isDown) throw new OrderError('UNAVAILABLE', 'the database does not answer', { retry_after: 1 });
        return rows.get(orderId);
      },
      add: async (orderId, key) => Boolean(rows.set(orderId, key)),
    },
    { makesKeys: true },
  ) as Encryption;
  async function encrypted(orderId: string, value: unknown): Promise<JsonPayload> {
    const { metadata, data } = json(value);
    const plain = {
      metadata: { encoding: Buffer.from(metadata.encoding ?? '', 'base64') },
      data: Buffer.from(data, 'base64'),
    };
    const [sealed] = await found.encode([plain], { workflowId: orderWorkflowId(orderId) });
    const names = Object.entries(sealed?.metadata ?? {}).map(([name, bytes]) => [name, base64(bytes)]);
    return { metadata: Object.fromEntries(names), data: base64(sealed?.data ?? '') };
  }
  return { codec: found, encrypted, rows, database };
}

/** An API with the codec endpoint, and what it logs. */
function apiWith(codec: Encryption, { auth = AUTH_ON, hosts }: { auth?: AuthConfig; hosts?: string[] } = {}) {
  const db = openDatabase('mysql://nobody@127.0.0.1:1/nothing');
  onTestFinished(() => db.close());
  const failures: Failure[] = [];
  const app = createApp({
    temporal: createHttpTemporal({ url: 'http://127.0.0.1:1', namespace: 'default' }),
    ...openApiStores(db),
    policy: 'exercise',
    auth,
    corsOrigins: [SHOP_PAGE],
    hosts,
    addCodec: codecRoute({ encryption: codec, uiOrigin: UI, hosts }),
    onFailure: (failure) => failures.push(failure),
  });
  const call: Call = { request_id: 'id' };
  return {
    call,
    failures,
    request: async (init: RequestInit) => app.fetch(new Request('http://127.0.0.1/codec/decode', init), call),
  };
}

const tokenOf = (claims: { scopes?: Scope[]; shop?: string; order?: string }) =>
  signToken(signingKey, {
    sub: 'jane',
    scopes: claims.scopes ?? ['orders:read:personal'],
    shop: claims.shop,
    order: claims.order,
    audience: 'trellis-orders',
    expires: '1m',
  });
const STAFF = await tokenOf({ shop: '*' });
const as = (token: string | undefined): Record<string, string> => (token ? { authorization: `Bearer ${token}` } : {});

async function decode(
  { request }: ReturnType<typeof apiWith>,
  payloads: unknown,
  { token = STAFF, headers = {} }: { token?: string | undefined; headers?: Record<string, string> } = {},
) {
  const answer = await request({
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-namespace': 'default', ...as(token), ...headers },
    body: JSON.stringify({ payloads }),
  });
  return { status: answer.status, headers: answer.headers, body: (await answer.json()) as Record<string, unknown> };
}

describe('who may use it', () => {
  test.each<[string, Parameters<typeof tokenOf>[0], number]>([
    ['staff of every shop', { shop: '*' }, 200],
    ['who serves an installation without shops', {}, 200],
    ['a caller of one shop', { shop: 'acme' }, 403],
    ['who may see one order', { shop: '*', order: 'o-1' }, 403],
    ['who may see one order where there are no shops', { order: 'o-1' }, 403],
    ['who may not read personal data', { shop: '*', scopes: ['orders:read', 'orders:list', 'orders:change'] }, 403],
  ])('%s: %j is answered %d', async (_, claims, status) => {
    const { codec, encrypted } = encryption();
    const api = apiWith(codec);
    const payloads = [await encrypted('o-1', 'secret')];
    const answer = await decode(api, payloads, { token: await tokenOf(claims) });
    expect(answer.status).toBe(status);
    expect(answer.body.payloads).toEqual(status === 200 ? [json('secret')] : undefined);
    expect(api.call.decoded).toEqual(status === 200 ? ['o-1'] : undefined);
  });

  test('a caller without a token is answered 401, before its body is read', async () => {
    const api = apiWith(encryption().codec);
    const answer = await decode(api, 'x'.repeat(LIMIT), { token: '' });
    expect([answer.status, answer.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
  });

  test('a caller without a shop reads no shop’s orders', async () => {
    const { codec, encrypted } = encryption();
    const [own, other] = [await encrypted('o-1', 'own'), await encrypted('acme~o-1', 'of a shop')];
    const api = apiWith(codec);
    expect((await decode(api, [own, other], { token: await tokenOf({}) })).body.payloads).toEqual([json('own'), other]);
    expect(api.call).toMatchObject({ caller: { sub: 'jane' }, decoded: ['o-1'] });
    expect((await decode(api, [own, other])).body.payloads).toEqual([json('own'), json('of a shop')]);
    expect(api.call).toMatchObject({ caller: { sub: 'jane', shop: '*' }, decoded: ['o-1', 'acme~o-1'] });
  });

  test('with AUTH=off it is for this machine', async () => {
    const { codec, encrypted } = encryption();
    const api = apiWith(codec, { auth: AUTH_OFF, hosts: ['127.0.0.1'] });
    const payloads = [await encrypted('o-1', 'secret')];
    expect((await decode(api, payloads, { token: '' })).body.payloads).toEqual([json('secret')]);
    const foreign = await decode(api, payloads, { token: '', headers: { host: 'attacker.example' } });
    expect(foreign.body).toMatchObject({ code: 'FORBIDDEN' });
  });
});

describe('what it answers', () => {
  test('payloads that are not encrypted, or whose key is gone, as they are, each at its place', async () => {
    const { codec, encrypted, rows } = encryption();
    const gone = await encrypted('o-gone', 'secret');
    rows.delete('o-gone');
    const payloads = [
      json({ plain: true }),
      { ...gone, metadata: { ...gone.metadata, 'encryption-key-id': base64('o-never') } },
      await encrypted('o-1', 'first'),
      {},
      { metadata: null, data: null, externalPayloads: [{ sizeBytes: '7' }] },
      { metadata: { encoding: base64('binary/encrypted') }, data: 'AAAA' },
      {
        metadata: { encoding: base64('binary/encrypted'), 'encryption-key-id': base64('a\n{"level":50}') },
        data: 'AAAA',
      },
      await encrypted('o-1', 'second'),
      await encryption().encrypted('o-elsewhere', 'of another database'),
    ];
    const api = apiWith(codec);
    const answer = await decode(api, payloads);
    const expected: unknown[] = [...payloads];
    expected[2] = json('first');
    expected[7] = json('second');
    expect(answer).toMatchObject({ status: 200, body: { payloads: expected } });
    expect(api.call.decoded).toEqual(['o-1']);
  });

  test.each<[what: string, status: number, code: string, body: string]>([
    ['that is cut off', 400, 'INVALID_JSON', '{'],
    ['of another type', 422, 'INVALID', '[]'],
    ['without payloads', 422, 'INVALID', '{}'],
    ['whose payloads are no list', 422, 'INVALID', '{"payloads": 1}'],
    ['with a payload of another form', 422, 'INVALID', '{"payloads": [{"metadata": {"encoding": 1}}]}'],
    ['that is too large', 413, 'PAYLOAD_TOO_LARGE', JSON.stringify({ payloads: [{ data: 'x'.repeat(LIMIT) }] })],
  ])('a body %s is refused: %d %s', async (_, status, code, body) => {
    const { request } = apiWith(encryption().codec);
    const answer = await request({ method: 'POST', headers: as(STAFF), body });
    expect([answer.status, await answer.json()]).toMatchObject([status, { code }]);
  });

  test('keys that prototypes have are only keys', async () => {
    const { request } = apiWith(encryption().codec);
    const body = '{"payloads":[{"metadata":{"__proto__":5,"constructor":"AA=="},"__proto__":{"data":1}}]}';
    const answer = await request({ method: 'POST', headers: as(STAFF), body });
    expect([answer.status, await answer.text()]).toEqual([200, body]);
  });

  test('UNAVAILABLE while the keys can’t be read; the log names no order for it', async () => {
    const { codec, encrypted, database } = encryption();
    const payloads = [await encrypted('o-1', 'secret')];
    database.isDown = true;
    const api = apiWith(codec);
    // A key that was used a moment ago is still known.
    expect((await decode(api, payloads)).status).toBe(200);
    const unknown = { ...payloads[0], metadata: { ...payloads[0]?.metadata, 'encryption-key-id': base64('o-2') } };
    expect(await decode(api, [unknown])).toMatchObject({ status: 503, body: { code: 'UNAVAILABLE' } });
    expect(api.failures).toMatchObject([{ path: '/codec/decode', code: 'UNAVAILABLE' }]);
    expect(api.failures[0]?.order_id).toBeUndefined();
  });
});

describe('pages', () => {
  const preflight = (origin: string): RequestInit => ({
    method: 'OPTIONS',
    headers: {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,content-type,x-namespace',
      'sec-fetch-site': 'cross-site',
    },
  });

  test('of Temporal’s UI may call it with a token, and read errors, too', async () => {
    const api = apiWith(encryption().codec);
    const { status, headers } = await api.request(preflight(UI));
    expect([status, headers.get('access-control-allow-origin'), headers.get('access-control-allow-methods')]).toEqual([
      204,
      UI,
      'POST',
    ]);
    expect(headers.get('access-control-allow-headers')).toBe('authorization,content-type,x-namespace');
    expect(headers.get('access-control-allow-credentials')).toBeNull();
    for (const token of [STAFF, '']) {
      const answer = await decode(api, [], { token, headers: { origin: UI, 'sec-fetch-site': 'cross-site' } });
      expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([token ? 200 : 401, UI]);
    }
  });

  test.each([SHOP_PAGE, 'https://evil.example'])('of %s may not, also those that may call the API', async (origin) => {
    const api = apiWith(encryption().codec);
    expect((await api.request(preflight(origin))).headers.get('access-control-allow-origin')).toBeNull();
    const answer = await decode(api, [], { headers: { origin, 'sec-fetch-site': 'cross-site' } });
    expect(answer.body).toMatchObject({ code: 'FORBIDDEN', detail: expect.stringContaining('TEMPORAL_UI_ORIGIN') });
    expect(answer.headers.get('access-control-allow-origin')).toBeNull();
  });
});

test.each([
  'https://temporal.example/',
  '*',
  'temporal.example',
  'https://a.example,https://b.example',
])('an origin is one origin: TEMPORAL_UI_ORIGIN=%s is refused', (TEMPORAL_UI_ORIGIN) => {
  const env = {
    AUTH: 'off',
    DATABASE_URL: 'mysql://127.0.0.1',
    TEMPORAL_ADDRESS: '127.0.0.1:7233',
    TEMPORAL_UI_ORIGIN,
  };
  expect(() => readConfig(PROGRAMS.api, env)).toThrow('TEMPORAL_UI_ORIGIN must be an origin');
});
