/** The access log's entries: their id, their path, and whom they name. On each runtime: api-server.test.ts and stack/access-log.test.ts. */
import { makeKey, publicKeyOf, signToken } from '@trellis/api/callers/own-keys';
import { accessOf, type Call, newCall } from '@trellis/api/http/access-log';
import { createApp } from '@trellis/api/http/app';
import { createHttpTemporal } from '@trellis/api/temporal/http';
import { openApiStores } from '@trellis/drizzle/api-stores';
import { openDatabase } from '@trellis/drizzle/client';
import { expect, onTestFinished, test } from 'vitest';

const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;

test.each(['a', 'x'.repeat(64), 'A-Za-z_0.9'])('the caller’s own id is kept: %s', (id) => {
  expect(newCall(id)).toEqual({ request_id: id });
});

test.each([
  undefined,
  null,
  '',
  'x'.repeat(65),
  'a b',
  'a\n{"level":50}',
  'a, b',
  'ä',
  ['a'],
])('an id that could be read as something else is replaced: %j', (id) => {
  expect(newCall(id).request_id).toMatch(UUID);
});

test.each([
  ['/orders/o-1?cursor=secret', '/orders/o-1'],
  ['/orders/o-1#secret', '/orders/o-1'],
  ['https://user:secret@api.example:8000/orders/o-1?secret', '/orders/o-1'],
  ['http://api.example', ''],
  [`/${'x'.repeat(1_000)}`, `/${'x'.repeat(299)}`],
  ['*', '*'],
])('of a request’s target %s the path is logged, without host and query', (url, path) => {
  const entry = accessOf({ request_id: 'id' }, { method: 'GET', url }, 200, 1.4);
  expect(entry).toEqual({ request_id: 'id', method: 'GET', path, status: 200, ms: 1 });
});

test.each(['/health', '/livez', '/readyz?from=balancer'])('the health probe %s is not logged', (url) => {
  expect(accessOf({ request_id: 'id' }, { method: 'GET', url }, 200, 1)).toBeUndefined();
});

test('a caller who is refused for too many calls is named', async () => {
  const key = await makeKey();
  const db = openDatabase('mysql://nobody@127.0.0.1:1/nothing');
  onTestFinished(() => db.close());
  const app = createApp({
    temporal: createHttpTemporal({ url: 'http://127.0.0.1:1', namespace: 'default' }),
    ...openApiStores(db),
    policy: 'exercise',
    auth: { AUTH: 'on', AUTH_PUBLIC_KEYS: [publicKeyOf(key)], AUTH_AUDIENCE: 'trellis-orders' },
    countCall: async () => false,
    onFailure: () => {},
  });
  const token = await signToken(key, {
    sub: 'jane',
    scopes: [],
    audience: 'trellis-orders',
    expires: '1m',
    shop: 'acme',
  });
  const call: Call = { request_id: 'id' };
  const headers = { authorization: `Bearer ${token}` };
  const answer = await app.fetch(new Request('http://127.0.0.1/orders', { headers }), call);
  expect(answer.status).toBe(429);
  expect(call).toEqual({ request_id: 'id', caller: { sub: 'jane', shop: 'acme', via: 'trellis-orders' } });
});
