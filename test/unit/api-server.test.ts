/** The API's server on Node, without the servers behind it: what it does about slow clients, too many of them, and a signal to stop. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, get, type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { makeKey, publicKeyOf, signToken } from '@trellis/api/callers/own-keys';
import { freePort } from '@trellis/local/stack/ports';
import { afterAll, describe, expect, test } from 'vitest';
import { eventually } from '../fixtures.ts';

const SCRIPT = fileURLToPath(new URL('../../api/node.ts', import.meta.url));
const NOWHERE = {
  DATABASE_URL: 'mysql://root@127.0.0.1:1/x',
  TEMPORAL_ADDRESS: '127.0.0.1:1',
  HOST: '127.0.0.1',
  AUTH: 'off',
};
/** Docker's and compose's. */
const GRACE_MS = 10_000;

const closing: (() => unknown)[] = [];
afterAll(() => closing.map((close) => close()));

interface Running {
  port: number;
  child: ChildProcess;
  /** Everything that it has logged. */
  log(): Record<string, unknown>[];
  /** Sends a signal and resolves with the exit code, and the milliseconds until then. */
  end(signal: NodeJS.Signals): Promise<{ code: unknown; took: number }>;
}

async function startApi(limit?: string, more: NodeJS.ProcessEnv = {}): Promise<Running> {
  const port = await freePort();
  const env = { ...process.env, ...NOWHERE, PORT: `${port}`, ...more };
  const stdio = ['ignore', 'pipe', 'inherit', 'ipc'] as const;
  const command = `${limit ? `ulimit ${limit}; ` : ''}exec "$0" "$1"`;
  const child = spawn('sh', ['-c', command, process.execPath, SCRIPT], { env, stdio: [...stdio] });
  closing.push(() => child.kill('SIGKILL'));
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  await once(child, 'message');
  return {
    port,
    child,
    log: () =>
      text
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    async end(signal) {
      const began = Date.now();
      const exited = once(child, 'exit');
      child.kill(signal);
      const [code] = await exited;
      return { code, took: Date.now() - began };
    },
  };
}

/** A connection on which this text has been sent. */
async function holding(port: number, text: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  closing.push(() => socket.destroy());
  // Most of these connections are closed by the server, some while they send.
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  if (text) socket.write(text);
  return socket;
}

const HEAD = 'POST /orders/o-1/start HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n';
const HELD = { 'no byte': '', 'half a head': HEAD, 'half a body': `${HEAD}\r\n{"payment_id"` };

/** What a server sends on a socket until the connection closes. */
async function receivedUntilClosed(socket: Socket): Promise<{ text: string; took: number }> {
  const began = Date.now();
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  if (!socket.closed) await once(socket, 'close');
  return { text, took: Date.now() - began };
}

/** One GET through the agent; resolves at the end of the answer. */
function getBy(agent: Agent, port: number, path: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path, agent }, (answer) => {
      answer.resume().once('end', () => resolve(answer));
    }).on('error', reject);
  });
}

const key = await makeKey();
const [shared, narrow, stopped, held, interrupted, guarded] = await Promise.all([
  startApi(),
  startApi('-n 240'),
  startApi(),
  startApi(),
  startApi(),
  startApi(undefined, { AUTH: 'on', AUTH_PUBLIC_KEYS: publicKeyOf(key) }),
]);

describe.concurrent('the API', () => {
  test('after SIGTERM is alive but not ready, asks clients to close, answers what is under way, and resets no connection', async () => {
    const { port } = stopped;
    await holding(port, HELD['no byte']);
    await holding(port, HELD['half a head']);
    await getBy(new Agent({ keepAlive: true }), port, '/health');
    const seen: (string | undefined)[] = [];
    const clients = Array.from({ length: 12 }, async () => {
      const agent = new Agent({ keepAlive: true });
      for (;;) {
        const answer = await getBy(agent, port, '/health').catch(({ code }) => `${code}`);
        if (typeof answer === 'string') return answer;
        seen.push(answer.headers.connection);
      }
    });
    await eventually(async () => seen.length > 100);
    expect(new Set(seen)).toEqual(new Set(['keep-alive']));
    const slow = request({ port, path: '/orders/o-1/start', method: 'POST', headers: { 'content-length': 2 } });
    const answered = once(slow, 'response');
    await new Promise((resolve) => slow.write('[', resolve));

    const ended = stopped.end('SIGTERM');
    await eventually(async () => seen.at(-1) === 'close');
    const ready = await fetch(`http://127.0.0.1:${port}/readyz`);
    expect([ready.status, await ready.json()]).toEqual([503, { ok: false, unreachable: [] }]);
    expect(new Set(await Promise.all(clients))).toEqual(new Set(['ECONNREFUSED']));
    slow.end(']');
    const [answer] = (await answered) as [IncomingMessage];
    expect([answer.statusCode, answer.headers.connection]).toEqual([422, 'close']);
    answer.resume();
    const { code, took } = await ended;
    expect(code).toBe(0);
    // Connections on which no request has arrived do not delay the end.
    expect(took).toBeLessThan(6_000);
  });

  test('ends within Docker’s grace after SIGTERM, whatever its clients hold', async () => {
    for (const text of Object.values(HELD)) await holding(held.port, text);
    const { code, took } = await held.end('SIGTERM');
    expect(code).toBe(0);
    expect(took).toBeLessThan(GRACE_MS);
  });

  test('stops listening at once after SIGINT, and ends at once after a second signal', async () => {
    const { port, child } = interrupted;
    await holding(port, HELD['half a body']);
    const began = Date.now();
    child.kill('SIGINT');
    await eventually(() =>
      fetch(`http://127.0.0.1:${port}/health`).then(
        () => false,
        () => true,
      ),
    );
    await interrupted.end('SIGTERM');
    expect(Date.now() - began).toBeLessThan(2_000);
  });

  test('answers half a head 408 after 10 s, half a body after 15 s, and keeps an idle connection', async () => {
    const { port } = shared;
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const first = await getBy(agent, port, '/health');
    expect(first.headers['keep-alive']).toBe('timeout=65');
    const [head, body] = await Promise.all(
      [HELD['half a head'], HELD['half a body']].map(async (text) => receivedUntilClosed(await holding(port, text))),
    );
    expect(head?.text).toMatch(/^HTTP\/1.1 408 /);
    expect(head?.took).toBeLessThan(14_000);
    expect(body?.text).toMatch(/^HTTP\/1.1 408 /);
    expect(body?.took).toBeLessThan(19_000);
    expect((await getBy(agent, port, '/health')).socket).toBe(first.socket);
  });

  test.each([
    '/orders/o-1/start',
    '/trpc/orders.start',
  ])('tells a client whose body is too large and does not end to close, and reads on until it has: %s', async (path) => {
    const type = 'Content-Type: application/json';
    const head = `POST ${path} HTTP/1.1\r\nHost: x\r\n${type}\r\nContent-Length: 1000000000\r\n\r\n`;
    const socket = await holding(shared.port, head);
    const sending = setInterval(() => socket.write('x'.repeat(1_000)), 10);
    let answer = '';
    socket.on('data', (chunk) => {
      answer += chunk;
    });
    await eventually(async () => answer.includes('PAYLOAD_TOO_LARGE'));
    expect(answer).toMatch(/^HTTP\/1.1 413 .*\r\nconnection: close\r\n/is);
    // After the answer the connection is not reset while the client sends.
    const sent = socket.bytesWritten;
    await eventually(async () => socket.bytesWritten > sent + 50_000);
    clearInterval(sending);
    socket.end();
    await once(socket, 'close');
    expect(socket.errored).toBeNull();
  });

  test.each([
    [403, 'elsewhere.example'],
    [403, 'localhost.elsewhere.example:80'],
    [422, 'localhost'],
    [422, 'localhost:80'],
    [422, '127.0.0.1:80'],
    [422, '[::1]:80'],
  ])('answers %i to a request whose Host is %s', async (status, host) => {
    const headers = { host };
    const answer = await new Promise<IncomingMessage>((resolve) => {
      get({ host: '127.0.0.1', port: shared.port, path: '/orders?limit=0', headers }, resolve);
    });
    answer.resume();
    expect(answer.statusCode).toBe(status);
  });

  test('closes connections beyond the limit, logs it, and answers once the others are gone', async () => {
    const sockets = await Promise.all(Array.from({ length: 60 }, () => holding(narrow.port, '')));
    await eventually(async () =>
      narrow.log().some(({ level, dropped, open }) => level === 40 && dropped === 1 && open === 40),
    );
    for (const socket of sockets) socket.destroy();
    await eventually(() =>
      fetch(`http://127.0.0.1:${narrow.port}/health`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
  });

  test.each([
    'TRACE / HTTP/1.1\r\nHost: x',
    'CONNECT x:1 HTTP/1.1\r\nHost: x',
    'OPTIONS * HTTP/1.1\r\nHost: x',
    'GET //[ HTTP/1.1\r\nHost: x',
    'GET http://[/ HTTP/1.1\r\nHost: x',
    'GET /%zz HTTP/1.1\r\nHost: x',
    'GET /health HTTP/1.1\r\nHost: a b',
    'GET /health HTTP/1.1',
    'GET /health HTTP/9.9\r\nHost: x',
    'POST /orders/o-1/start HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked',
    '\u0000\u0001',
  ])('%j does not crash it', async (head) => {
    const socket = await holding(shared.port, `${head}\r\nConnection: close\r\n\r\n`);
    const { text } = await receivedUntilClosed(socket);
    expect(text).toMatch(/^(HTTP\/1\.1 [24]\d\d |$)/);
    expect((await fetch(`http://127.0.0.1:${shared.port}/health`)).status).toBe(200);
  });

  test('logs a failed call in one line, and nothing of a body that its client cuts off', async () => {
    for (const path of ['/orders/o-1/start', '/trpc/orders.start'])
      for (let n = 0; n < 20; n += 1) {
        const socket = await holding(
          shared.port,
          `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"pay`,
        );
        socket[n % 2 ? 'destroy' : 'resetAndDestroy']();
      }
    const headers = { 'x-request-id': 'a-failed-call' };
    await fetch(`http://127.0.0.1:${shared.port}/orders/o-1`, { headers });
    const failures = await eventually(async () => {
      const found = shared.log().filter(({ level }) => level === 50);
      return found.length > 0 && found;
    });
    const id = { request_id: 'a-failed-call', order_id: 'o-1' };
    const call = { method: 'GET', path: '/orders/o-1', code: 'UNAVAILABLE', ...id };
    expect(failures).toMatchObject([
      { ...call, reason: expect.stringContaining('ECONNREFUSED'), msg: 'request failed' },
    ]);
    expect(failures[0]).not.toHaveProperty('stack');
  });

  test('logs each request in one line under its id, with who sent it and how it ended, and nothing of what it carried', async () => {
    const { port } = guarded;
    const token = await signToken(key, {
      sub: 'jane',
      scopes: [],
      audience: 'trellis-orders',
      expires: '1m',
      shop: 'acme',
    });
    const send = async (id: string, path: string, init: RequestInit = {}) => {
      const headers = { 'x-request-id': id, ...init.headers };
      const { status, headers: answered } = await fetch(`http://127.0.0.1:${port}${path}`, { ...init, headers });
      return { status, id: answered.get('x-request-id') ?? '' };
    };
    const secret = 'a-secret-of-the-caller';
    const authorization = `Bearer ${token}`;
    const known = await send('own.id_-1', `/orders?cursor=${secret}`, { headers: { authorization } });
    const unknown = await send('no id of ours', '/orders/o-1/start', {
      method: 'POST',
      headers: { authorization: `Bearer ${secret}` },
      body: secret,
    });
    const trpc = await send('x'.repeat(65), `/trpc/orders.get?input=${secret}`, { headers: { authorization } });
    for (const probe of ['/health', '/livez', '/readyz']) await send('a-probe', probe);

    const uuid = expect.stringMatching(/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/);
    expect([known, unknown, trpc]).toEqual([
      { status: 403, id: 'own.id_-1' },
      { status: 401, id: uuid },
      { status: 403, id: uuid },
    ]);
    const caller = { sub: 'jane', shop: 'acme', via: 'trellis-orders' };
    const ms = expect.any(Number);
    const lines = await eventually(async () => {
      const found = guarded.log().filter(({ msg }) => msg === 'request');
      return found.length >= 3 && found.map(({ level, time, msg, ...line }) => line);
    });
    expect(lines).toEqual([
      { request_id: known.id, method: 'GET', path: '/orders', status: 403, ms, caller },
      { request_id: unknown.id, method: 'POST', path: '/orders/o-1/start', status: 401, ms },
      { request_id: trpc.id, method: 'GET', path: '/trpc/orders.get', status: 403, ms, caller },
    ]);
    expect(JSON.stringify(guarded.log())).not.toContain(secret);
    expect(JSON.stringify(guarded.log())).not.toContain(token);
  });

  test('logs a request that its client breaks off with the status 499', async () => {
    const socket = await holding(shared.port, `${HEAD}X-Request-Id: broken-off\r\n\r\n{"payment_id"`);
    // The request has arrived once another one, sent later, is answered.
    await fetch(`http://127.0.0.1:${shared.port}/health`);
    socket.destroy();
    const line = await eventually(async () => shared.log().find(({ request_id }) => request_id === 'broken-off'));
    expect(line).toMatchObject({ method: 'POST', path: '/orders/o-1/start', status: 499, msg: 'request' });
  });

  test('warns of each server that does not answer at the start by its variable, and is not ready', async () => {
    const warnings = await eventually(async () => {
      const lines = shared.log().flatMap(({ level, msg }) => (level === 40 ? [`${msg}`] : []));
      return lines.length === 3 && lines.sort();
    });
    expect(warnings[0]).toBe('AUTH=off: whoever reaches this API may do everything; it serves this machine only');
    expect(warnings[1]).toMatch(/^DATABASE_URL \(127\.0\.0\.1:1\): /);
    expect(warnings[2]).toMatch(/^TEMPORAL_ADDRESS \(127\.0\.0\.1:1\), namespace default: /);
    const where = { temporal: '127.0.0.1:1', namespace: 'default', host: '127.0.0.1', port: shared.port };
    expect(shared.log()).toContainEqual(
      expect.objectContaining({ msg: 'api listening', policy: 'exercise', ...where }),
    );
    const ready = await fetch(`http://127.0.0.1:${shared.port}/readyz`);
    expect([ready.status, await ready.json()]).toEqual([503, { ok: false, unreachable: ['database', 'temporal'] }]);
    expect((await fetch(`http://127.0.0.1:${shared.port}/livez`)).status).toBe(200);
  });
});
