/** The API's contract, on every runtime and with every adapter of Temporal and the database. */
import { openApiDocument } from '@trellis/api/http/openapi-from-router';
import { orderErrorOf } from '@trellis/client';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { createConnection } from 'mysql2/promise';
import { describe, expect, test } from 'vitest';
import { anOrder, clientOf, eventually, freshId, HAPPY_EVENTS, tokenFor } from '../fixtures.ts';
import { need } from '../servers.ts';

interface Answer {
  status: number;
  type: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into any JSON
  body: any;
}

const { apis, DATABASE_URL } = await need('apis', 'database');

describe.each(apis)('$name', (api) => {
  const client = clientOf(api);

  const callApi = (path: string, { headers, ...init }: RequestInit = {}) =>
    fetch(api.url + path, { ...init, headers: { ...tokenFor(api, path), ...(headers as Record<string, string>) } });

  async function http(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await callApi(path, {
      method,
      headers,
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const type = response.headers.get('content-type');
    return { status: response.status, type, body: await response.json() };
  }

  async function started(given: Parameters<typeof anOrder>[0] = {}): Promise<string> {
    const { order_id, ...order } = anOrder(given);
    expect((await http('POST', `/orders/${order_id}/start`, order)).status).toBe(200);
    return order_id;
  }

  const awaiting = (order_id: string) =>
    eventually(async () => (await client.status.query({ order_id })).step === 'awaiting_approval');

  const ended = (order_id: string) =>
    eventually(async () => {
      const status = await client.status.query({ order_id });
      return isTerminal(status.state) && status;
    });

  const trpcError = async (call: Promise<unknown>) => {
    const error = await call.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    return orderErrorOf(error);
  };

  describe('an order over HTTP', () => {
    test('ships, and each step is in its events once', async () => {
      const { order_id, ...order } = anOrder();
      const start = await http('POST', `/orders/${order_id}/start`, order);
      expect(start.body).toEqual({ workflow_id: `order-${order_id}`, run_id: expect.any(String) });
      await awaiting(order_id);
      expect(await http('POST', `/orders/${order_id}/signals/approve`)).toMatchObject({
        status: 200,
        body: { ok: true, state: 'approved', changed: true },
      });
      await ended(order_id);
      expect(await client.status.query({ order_id })).toMatchObject({
        state: 'shipped',
        step: 'done',
        approved: true,
        source: 'sql',
      });
      const { body } = await http('GET', `/orders/${order_id}`);
      expect(body.events.map((event: { type: string }) => event.type)).toEqual(HAPPY_EVENTS);
      expect(body).toMatchObject({ amount: '2.00', currency: 'USD' });
      expect(body.payments).toMatchObject([{ status: 'charged', amount: '2.00' }]);
      expect(body.shipments).toMatchObject([{ attempt: 1, status: 'dispatched' }]);
    });

    test('has a status from the moment it was accepted', async () => {
      const order_id = await started();
      expect(await http('GET', `/orders/${order_id}/status`)).toMatchObject({
        status: 200,
        body: { order_id, approved: false },
      });
    });

    test('shows an accepted command in the next status', async () => {
      const order_id = await started();
      await awaiting(order_id);
      await client.status.query({ order_id });
      await client.signal.approve.mutate({ order_id });
      expect(await client.status.query({ order_id })).toMatchObject({ approved: true });
    });

    test('is canceled with the default reason when none is given', async () => {
      const order_id = await started();
      await awaiting(order_id);
      expect((await http('POST', `/orders/${order_id}/signals/cancel`)).status).toBe(200);
      expect(await ended(order_id)).toMatchObject({
        state: 'canceled',
        canceled: true,
        cancel_reason: 'user_request',
      });
    });

    test('has its new address in SQL before the command is answered', async () => {
      const order_id = await started();
      await awaiting(order_id);
      const address = { line1: '9 New St', city: 'Boston' };
      expect((await http('POST', `/orders/${order_id}/signals/address`, { address })).body).toMatchObject({
        changed: true,
      });
      expect((await http('GET', `/orders/${order_id}`)).body.address).toEqual(address);
      expect((await http('POST', `/orders/${order_id}/signals/address`, { address })).body).toMatchObject({
        changed: false,
      });
    });
  });

  test('an order that has ended is erased once, and is read as before', async () => {
    const order_id = await started();
    await client.signal.cancel.mutate({ order_id, reason: 'moved away' });
    await ended(order_id);
    expect([200, 202]).toContain((await http('POST', `/orders/${order_id}/erase`)).status);
    await eventually(async () => {
      const answer = await client.erase.mutate({ order_id });
      return 'changed' in answer && answer.changed === false;
    });
    const { body } = await http('GET', `/orders/${order_id}`);
    expect(body).toMatchObject({ state: 'canceled', reason: null, address: null, erased_at: expect.any(String) });
    expect(body.events.at(-1).type).toBe('order_erased');
    expect(JSON.stringify(body)).not.toContain('moved away');
    await eventually(async () => (await client.status.query({ order_id })).cancel_reason === null);
  });

  describe('starting an order again', () => {
    test('with the same body gives the same run, before and after it has ended', async () => {
      const { order_id, ...order } = anOrder();
      const first = await http('POST', `/orders/${order_id}/start`, order);
      const again = await http(
        'POST',
        `/orders/${order_id}/start`,
        Object.fromEntries(Object.entries(order).reverse()),
      );
      expect(again).toEqual(first);
      await client.signal.cancel.mutate({ order_id });
      await ended(order_id);
      expect(await http('POST', `/orders/${order_id}/start`, order)).toEqual(first);
    });

    test('with another body is a conflict', async () => {
      const { order_id, ...order } = anOrder();
      await http('POST', `/orders/${order_id}/start`, order);
      const other = { ...order, items: [{ sku: 'ABC', qty: 9 }] };
      expect(await http('POST', `/orders/${order_id}/start`, other)).toMatchObject({
        status: 409,
        body: { code: 'ORDER_CONFLICT' },
      });
    });

    test('fifty times concurrently makes one run', async () => {
      const order = anOrder();
      const runs = await Promise.all(Array.from({ length: 50 }, () => client.start.mutate(order)));
      expect(new Set(runs.map((run) => run.run_id)).size).toBe(1);
    });
  });

  describe('a command', () => {
    test('that repeats what already holds changes nothing, also after it led to the terminal state', async () => {
      const order_id = await started();
      await awaiting(order_id);
      await client.signal.approve.mutate({ order_id });
      await ended(order_id);
      expect(await client.signal.approve.mutate({ order_id })).toEqual({ ok: true, state: 'shipped', changed: false });
    });

    test('that comes too late is refused with the state that forbids it', async () => {
      const order_id = await started();
      await client.signal.cancel.mutate({ order_id, reason: 'first' });
      await ended(order_id);
      // SQL may have the end a moment before the workflow does; until then the workflow refuses with its own state.
      const late = await eventually(async () => {
        const answer = await http('POST', `/orders/${order_id}/signals/approve`);
        expect(answer).toMatchObject({ status: 409, type: 'application/problem+json', body: { code: 'TOO_LATE' } });
        return answer.body.state === 'canceled' && answer;
      });
      expect(late).toMatchObject({ body: { code: 'TOO_LATE', state: 'canceled' } });
      expect((await http('POST', `/orders/${order_id}/signals/cancel`, { reason: 'second' })).body.changed).toBe(false);
      expect(await client.status.query({ order_id })).toMatchObject({ cancel_reason: 'first' });
    });

    test('with the same Idempotency-Key gets the first answer, also after the order has ended', async () => {
      const order_id = await started();
      await awaiting(order_id);
      const context = { idempotencyKey: freshId('key') };
      const cancel = () => client.signal.cancel.mutate({ order_id }, { context });
      const first = await cancel();
      expect(first).toMatchObject({ changed: true });
      await ended(order_id);
      expect(await cancel()).toEqual(first);
    });

    test('may not use an Idempotency-Key again with other values', async () => {
      const order_id = await started();
      await awaiting(order_id);
      const headers = { 'idempotency-key': freshId('key') };
      const change = (address: object) => http('POST', `/orders/${order_id}/signals/address`, { address }, headers);
      const first = await change({ line1: 'a', city: 'b' });
      expect(first).toMatchObject({ status: 200, body: { changed: true } });
      expect(await change({ line1: 'c', city: 'b' })).toMatchObject({
        status: 422,
        body: { code: 'INVALID', errors: [{ path: 'Idempotency-Key' }] },
      });
      expect(await change({ city: 'b', line1: 'a' })).toMatchObject({ status: 200, body: first.body });
    });

    test('may not use the Idempotency-Key of another command', async () => {
      const order_id = await started();
      await awaiting(order_id);
      const headers = { 'idempotency-key': freshId('key') };
      await http('POST', `/orders/${order_id}/signals/address`, { address: { line1: 'a', city: 'b' } }, headers);
      expect(await http('POST', `/orders/${order_id}/signals/cancel`, {}, headers)).toMatchObject({
        status: 422,
        body: { code: 'INVALID', errors: [{ path: 'Idempotency-Key' }] },
      });
    });
  });

  describe('REST and tRPC', () => {
    test('agree on the error code and its data', async () => {
      const order_id = await started();
      await awaiting(order_id);
      await client.signal.cancel.mutate({ order_id });
      await ended(order_id);
      const { order_id: _, ...order } = anOrder();
      const start = (body: typeof order) => ({
        rest: () => http('POST', `/orders/${order_id}/start`, body),
        trpc: () => client.start.mutate({ order_id, ...body }),
      });
      const approve = (id: string) => ({
        rest: () => http('POST', `/orders/${id}/signals/approve`),
        trpc: () => client.signal.approve.mutate({ order_id: id }),
      });
      const calls = {
        NOT_FOUND: approve(freshId()),
        TOO_LATE: approve(order_id),
        ORDER_CONFLICT: start({ ...order, items: [{ sku: 'ABC', qty: 9 }] }),
        INVALID: start({ ...order, items: [{ sku: 'ABC', qty: 0 }] }),
        PAYLOAD_TOO_LARGE: start({ ...order, address: { ...order.address, line2: 'x'.repeat(100_000) } }),
      };
      for (const [code, { rest, trpc }] of Object.entries(calls)) {
        const { type, title, status, detail, ...problem } = (await rest()).body;
        expect(problem.code).toBe(code);
        expect(await trpcError(trpc())).toEqual({ message: detail, ...problem });
      }
    });

    test('show no internals in an error', async () => {
      const response = await callApi('/trpc/orders.start', { method: 'POST', body: '{"order_id":1}' });
      const text = await response.text();
      expect(text).not.toMatch(/stack|node_modules|\.ts:/);
    });

    test('list the newest orders first and continue where a page ended', async () => {
      const ids = [await started(), await started(), await started()];
      for (const order_id of ids) await awaiting(order_id);
      const all = await client.list.query({ limit: 200 });
      const first = await client.list.query({ limit: 2 });
      const second = await client.list.query({ limit: 200, cursor: first.next_cursor ?? '' });
      expect([...first.orders, ...second.orders].map((order) => order.order_id).slice(0, 3)).toEqual(
        all.orders.map((order) => order.order_id).slice(0, 3),
      );
      expect((await http('GET', '/orders?state=awaiting_approval&limit=1')).body.orders).toHaveLength(1);
    });
  });

  describe('invalid input gets a clear answer', () => {
    const order = { payment_id: 'p', address: { line1: 'a', city: 'b' }, items: [{ sku: 's', qty: 1 }] };

    test.each([
      [400, 'INVALID_JSON', 'POST', '/orders/o-1/start', '{"payment_id":'],
      [400, 'INVALID_JSON', 'POST', '/orders/o-1/signals/cancel', '\n'],
      [422, 'INVALID', 'POST', '/orders/o-1/start', '[]'],
      [422, 'INVALID', 'POST', '/orders/o-1/start', 'null'],
      [422, 'INVALID', 'POST', '/orders/o-1/start', ''],
      [422, 'INVALID', 'POST', '/orders/a%2Fb/start', order],
      [422, 'INVALID', 'POST', '/orders/a%252Fb/start', order],
      [422, 'INVALID', 'POST', '/orders/a%2Fterminate/signals/approve', ''],
      [422, 'INVALID', 'GET', '/orders/a%2Fb/status', undefined],
      [422, 'INVALID', 'GET', `/orders/${'x'.repeat(65)}/status`, undefined],
      [422, 'INVALID', 'GET', '/orders?limit=0', undefined],
      [422, 'INVALID', 'GET', '/orders?limit=many', undefined],
      [422, 'INVALID', 'GET', '/orders?state=lost', undefined],
      [422, 'INVALID', 'GET', '/orders?limit=1&limit=2', undefined],
      [422, 'INVALID', 'GET', '/orders?state=shipped&state=failed', undefined],
      [422, 'INVALID', 'GET', '/orders/o-1%00/status', undefined],
      [404, 'NOT_FOUND', 'GET', '/orders/never-started/status', undefined],
      [404, 'NOT_FOUND', 'GET', '/orders/never-started', undefined],
      [404, 'NOT_FOUND', 'POST', '/orders/never-started/signals/approve', ''],
      [404, 'NOT_FOUND', 'POST', '/orders/never-started/signals/cancel', { reason: 'x' }],
      [404, 'NOT_FOUND', 'GET', '/nothing/here', undefined],
      [404, 'NOT_FOUND', 'DELETE', '/orders/o-1', undefined],
      [422, 'INVALID', 'POST', '/orders/o-1/signals/cancel', { reason: 'x'.repeat(201) }],
      [422, 'INVALID', 'POST', '/orders/o-1/signals/cancel', { reason: 7 }],
      [422, 'INVALID', 'POST', '/orders/o-1/signals/address', {}],
      [413, 'PAYLOAD_TOO_LARGE', 'POST', '/orders/o-1/start', `"${'x'.repeat(10_000_000)}"`],
    ])('%i %s: %s %s %#', async (status, code, method, path, body) => {
      expect(await http(method, path, body)).toMatchObject({
        status,
        type: 'application/problem+json',
        body: { code, status, title: expect.any(String), detail: expect.any(String) },
      });
    });

    test('names the path of each failing field', async () => {
      const { body } = await http('POST', '/orders/o-1/start', {
        ...order,
        items: [{ sku: 's', qty: 0 }],
        payment_id: '/',
      });
      expect(body.errors.map((error: { path: string }) => error.path)).toEqual(['payment_id', 'items.0.qty']);
    });
  });

  test.each(['/health', '/livez', '/readyz'])('%s answers 200', async (path) => {
    expect(await http('GET', path)).toMatchObject({ status: 200, body: { ok: true } });
  });

  test('its answers are not stored, not framed, and of the type that they say', async () => {
    const { headers } = await callApi('/orders');
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
    const page = await callApi('/docs/');
    expect(page.headers.get('x-content-type-options')).toBe('nosniff');
    expect(page.headers.get('content-security-policy')).toMatch(/script-src 'self' 'sha256-.*frame-ancestors 'none'/);
  });

  test.each([
    'a:b',
    '...',
    '_.-:',
    'x'.repeat(64),
  ])('an order has the same id over REST, percent-encoded or not, and over tRPC: %s', async (suffix) => {
    const order_id = suffix.length === 64 ? `${freshId()}${suffix}`.slice(0, 64) : `${freshId()}${suffix}`;
    const { order_id: _, ...order } = anOrder({ payment_id: freshId() });
    const encoded = Array.from(order_id, (character) => `%${character.charCodeAt(0).toString(16)}`).join('');
    const first = await http('POST', `/orders/${order_id}/start`, order);
    expect(first).toMatchObject({ status: 200, body: { workflow_id: `order-${order_id}` } });
    expect(await http('POST', `/orders/${encoded}/start`, order)).toEqual(first);
    expect(await client.start.mutate({ order_id, ...order })).toEqual(first.body);
    expect((await http('GET', `/orders/${encoded}/status`)).body.order_id).toBe(order_id);
    expect(await client.get.query({ order_id })).toMatchObject({ order_id });
  });

  test.each(['.', '..', 'a/b', ''])('an id that a URL’s path can’t carry is refused: %j', async (order_id) => {
    expect(await trpcError(client.start.mutate(anOrder({ order_id, payment_id: 'p' })))).toMatchObject({
      code: 'INVALID',
      errors: [{ path: 'order_id' }],
    });
  });

  describe('a body', () => {
    const start = '/orders/o-1/start';
    const bytes = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));
    const latin1 = bytes(
      '{"payment_id":"p","address":{"line1":"M\xfcllerstr. 5","city":"C"},"items":[{"sku":"S","qty":1}]}',
    );

    test.each(['/trpc/orders.start', start])('that is not UTF-8 is refused: %s', async (path) => {
      const post = async (body: Uint8Array<ArrayBuffer>, type = 'application/json') => {
        const answer = await callApi(path, { method: 'POST', body, headers: { 'content-type': type } });
        const json = (await answer.json()) as { code?: string; error?: { data: { code: string } } };
        return [answer.status, json.code ?? json.error?.data.code];
      };
      expect(await post(latin1)).toEqual([400, 'INVALID_JSON']);
      expect(await post(latin1, 'application/json; charset=iso-8859-1')).toEqual([400, 'INVALID_JSON']);
      expect(await post(bytes('{"a":"\xc3'))).toEqual([400, 'INVALID_JSON']);
      expect(await post(bytes('{"a":"\xed\xa0\x80"}'))).toEqual([400, 'INVALID_JSON']);
      expect((await post(bytes('\xef\xbb\xbf{}'), 'application/json; charset=UTF-8'))[1]).toBe('INVALID');
    });

    test.each([
      '/trpc/orders.start',
      start,
      '/nothing/here',
    ])('that is too large is answered 413 each time, whole or in chunks, on connections that are used again: %s', async (path) => {
      for (let round = 0; round < 5; round += 1)
        for (const size of [70_000, 1_000_000, 10_000_000]) {
          const whole = new Uint8Array(size);
          const inChunks = new Blob([whole]).stream();
          for (const body of [whole, inChunks]) {
            const headers = { 'content-type': 'application/json' };
            const request = { method: 'POST', headers, body, duplex: 'half' } as RequestInit;
            const answer = await callApi(path, request);
            await answer.arrayBuffer();
            expect(answer.status, `${size} bytes, round ${round}`).toBe(413);
          }
        }
    });
  });

  test('requests that their clients break off leave the others answered', async () => {
    const brokenOff = Array.from({ length: 60 }, (_, n) =>
      callApi(`/orders/${freshId()}/status`, { signal: AbortSignal.timeout(1 + n) }).catch(() => undefined),
    );
    const others = Array.from({ length: 60 }, () => callApi(`/orders/${freshId()}/status`));
    expect(new Set((await Promise.all(others)).map(({ status }) => status))).toEqual(new Set([404]));
    await Promise.all(brokenOff);
  });

  test('a batch of tRPC calls is refused', async () => {
    const input = encodeURIComponent(JSON.stringify({ 0: {}, 1: {} }));
    const answer = await callApi(`/trpc/orders.list,orders.list?batch=1&input=${input}`);
    expect(answer.status).toBe(400);
    expect(JSON.stringify(await answer.json())).toMatch(/"message":"[^"]*[Bb]atching is not enabled/);
  });

  test('refuses a start that waits too long for the database, and leaves nothing locked', async () => {
    const holder = await createConnection(DATABASE_URL);
    try {
      await holder.query('BEGIN');
      await holder.query('SELECT id FROM capacity FOR UPDATE');
      const { order_id, ...order } = anOrder();
      const answer = await http('POST', `/orders/${order_id}/start`, order);
      expect(answer).toMatchObject({ status: 429, body: { code: 'BUSY' } });
      await holder.query('ROLLBACK');
      await holder.query('SET innodb_lock_wait_timeout = 3');
      await holder.query('SELECT id FROM capacity FOR UPDATE');
    } finally {
      await holder.end();
    }
    await started();
  });

  test('allows pages of the configured origins to call it, and no others', async () => {
    const ask = (origin: string) =>
      callApi('/orders/o-1/signals/approve', {
        method: 'OPTIONS',
        headers: {
          origin,
          'access-control-request-method': 'POST',
          'access-control-request-headers': 'authorization,idempotency-key',
        },
      });
    const allowed = await ask('https://shop.example');
    expect(allowed.headers.get('access-control-allow-origin')).toBe('https://shop.example');
    expect(allowed.headers.get('access-control-allow-headers')).toBe('authorization,idempotency-key');
    expect((await ask('https://elsewhere.example')).headers.get('access-control-allow-origin')).toBeNull();
  });

  test.each([
    ['POST', '/orders/o-1/start'],
    ['POST', '/orders/o-1/signals/approve'],
    ['GET', '/orders'],
    ['POST', '/trpc/orders.signal.approve'],
  ])('%s %s: is refused when a browser sends it for a page of another origin', async (method, path) => {
    const send = async (headers: Record<string, string>) => {
      // As a form sends it, except where only JSON is taken.
      const type = path.startsWith('/trpc') ? 'application/json' : 'text/plain';
      const sent = method === 'POST' ? { body: '{}', headers: { ...headers, 'content-type': type } } : { headers };
      const response = await callApi(path, { method, ...sent });
      return [response.status, await response.text()] as const;
    };
    for (const site of ['cross-site', 'same-site']) {
      const [status, text] = await send({ 'sec-fetch-site': site, origin: 'https://elsewhere.example' });
      expect(status).toBe(403);
      expect(text).toContain('FORBIDDEN');
      expect((await send({ 'sec-fetch-site': site }))[0]).toBe(403);
      expect((await send({ 'sec-fetch-site': site, origin: 'https://shop.example' }))[0]).not.toBe(403);
    }
    for (const site of ['same-origin', 'none']) expect((await send({ 'sec-fetch-site': site }))[0]).not.toBe(403);
  });

  test('serves the OpenAPI document that the router generates', async () => {
    const answer = await http('GET', '/openapi.json');
    expect(answer).toMatchObject({ status: 200, type: 'application/json' });
    expect(answer.body).toEqual(JSON.parse(JSON.stringify(openApiDocument())));
  });

  test('redirects the root to its docs', async () => {
    const answer = await callApi('/', { redirect: 'manual' });
    expect([answer.status, answer.headers.get('location')]).toEqual([307, '/docs/']);
    expect((await callApi('/')).headers.get('content-type')).toContain('text/html');
  });

  test('serves its docs, without files from other hosts', async () => {
    const page = await (await callApi('/docs')).text();
    const files = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, file = '']) => file);
    expect(files).toEqual(['swagger-ui.css', 'swagger-ui-bundle.js']);
    for (const file of files) expect((await callApi(`/docs/${file}`)).status).toBe(200);
  });
});
