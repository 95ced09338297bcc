/** Each way to run the API logs its requests alike: one line, under the id that the answer has. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, inject, test } from 'vitest';
import { eventually, freshId, tokenFor } from '../fixtures.ts';
import { need } from '../servers.ts';

const { apis } = await need('apis');
/** Where each of them logs, in the run's folder. */
const LOGS = ['logs/api.log', 'logs/api-over-http.log', 'logs/edge.log', 'guarded/logs/edge.log'];

test.each(
  apis.map((api, n) => ({ api, log: join(inject('folder'), LOGS[n] ?? '') })),
)('one line a request: $api.name', async ({ api, log }) => {
  const id = freshId('call');
  const path = `/orders/${freshId()}`;
  const headers = { 'x-request-id': id, ...tokenFor(api, path) };
  const answer = await fetch(`${api.url}${path}?secret=${id}-secret`, { headers });
  expect([answer.status, answer.headers.get('x-request-id')]).toEqual([404, id]);
  expect((await fetch(`${api.url}/health`)).headers.get('x-request-id')).toMatch(/^[\da-f-]{36}$/);

  const line = await eventually(async () => {
    const lines = (await readFile(log, 'utf8')).split('\n');
    return lines.find((text) => text.includes(id) && !text.includes('[wrangler'));
  });
  const { request_id, method, path: logged, status, ms, caller } = JSON.parse(line.slice(line.indexOf('{')));
  expect({ request_id, method, path: logged, status }).toEqual({ request_id: id, method: 'GET', path, status: 404 });
  expect(ms).toBeLessThan(30_000);
  expect(caller).toEqual(api.tokens ? { sub: 'starter', via: 'trellis-orders' } : { sub: 'anybody', via: 'auth-off' });
  expect(await readFile(log, 'utf8')).not.toContain(`${id}-secret`);
});
