/**
 * Personal data stands only where docs/operations.md says: orders whose every personal field is a canary, a text found nowhere else, go
 * through their ends, faults and outages, on programs that encrypt, ask for tokens and log at every level. Then everything that was stored,
 * logged and answered is searched.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Client, Connection } from '@temporalio/client';
import { makeKey, publicKeyOf, signToken } from '@trellis/api/callers/own-keys';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { recordedId } from '@trellis/contracts/id';
import { createEncryption } from '@trellis/contracts/payload-codec';
import { EVERY_SHOP, SCOPE_NAMES, type Scope } from '@trellis/contracts/scopes';
import { ORDER_WORKFLOW, ORDERS_QUEUE, orderWorkflowId } from '@trellis/contracts/temporal';
import { openDatabase } from '@trellis/drizzle/client';
import { createOrderKeyStore } from '@trellis/drizzle/order-keys';
import { AUDIENCE, SHOP } from '@trellis/local/stack/callers';
import { throwAwayFolder } from '@trellis/local/stack/folder';
import { startApi } from '@trellis/local/stack/node-programs';
import { freePort, HOST } from '@trellis/local/stack/ports';
import { type Stack, startStack } from '@trellis/local/stack/stack';
import { findTemporalCli } from '@trellis/local/stack/temporal-server';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { beforeAll, describe, expect, test } from 'vitest';
import { eventually, freshId } from '../fixtures.ts';

const RUN = `canary${randomBytes(6).toString('hex')}`;
const canary = (field: string) => `${RUN}.${field}`;

const ADDRESS = {
  line1: canary('line1'),
  line2: canary('line2'),
  city: canary('city'),
  postal_code: canary('code'),
  country: canary('country'),
  name: canary('name'),
  phone: canary('phone'),
  [canary('a-field')]: canary('another-field'),
};
/** The sandbox's carrier refuses it, and says so in words that quote the city. */
const REFUSED = { ...ADDRESS, city: 'Unreachable' };
const MOVED = { line1: canary('new-line1'), city: canary('new-city') };
const REASON = canary('reason');
const ITEMS = [{ sku: canary('sku'), qty: 2 }];
/** Someone who sends a number where a text belongs. */
const PHONE = Number(`55${randomBytes(5).readUIntBE(0, 5)}`);
/** In the order of another caller of Temporal, who does not encrypt: it shows that what is stored there is found. */
const IN_CLEAR = `clear${randomBytes(6).toString('hex')}`;

/** The texts as they are, in base64, and as a list of bytes. */
const SPELLINGS = [RUN, 'Unreachable', `${PHONE}`].flatMap((text) => {
  const bytes = Buffer.from(text);
  // In base64 a text has three forms, by where it begins. Its first and last character also depend on what is beside it.
  const base64 = [0, 1, 2].map((before) =>
    Buffer.concat([Buffer.alloc(before), bytes])
      .toString('base64')
      .replace(/=+$/, '')
      .slice(Math.ceil((before * 8) / 6), -1),
  );
  return [text, ...base64, bytes.join(',')];
});

/** Where a personal text stands, with what is around it; empty when there is none. */
function found(text: string | Buffer): string[] {
  const where = Buffer.from(text);
  return SPELLINGS.flatMap((spelling) => {
    const at = where.indexOf(spelling);
    return at < 0 ? [] : [where.toString('latin1', Math.max(0, at - 120), at + 80)];
  });
}

const key = await makeKey();
/** The callers are persons: their names are in the audit trail and in the access log, and nowhere else. */
const tokenOf = (sub: string, shop: string, scopes: readonly Scope[]) =>
  signToken(key, { sub: canary(sub), shop, scopes, audience: AUDIENCE, expires: '1h' });
const STARTER = await tokenOf('starter', SHOP, ['orders:start', 'orders:read', 'orders:read:personal', 'orders:list']);
const DECIDER = await tokenOf('decider', SHOP, SCOPE_NAMES);
const STAFF = await tokenOf('staff', EVERY_SHOP, ['orders:read:personal', 'orders:change']);
const signatureOf = (token: string) => token.split('.')[2] ?? '';

const ENCRYPTION = { ENCRYPTION_KEYS: [`k1:${randomBytes(32).toString('base64url')}`], ENCRYPT: 'on' as const };
const SETTINGS = {
  AUTH: 'on',
  AUTH_PUBLIC_KEYS: publicKeyOf(key),
  ENCRYPTION_KEYS: ENCRYPTION.ENCRYPTION_KEYS.join(','),
  ENCRYPT: ENCRYPTION.ENCRYPT,
  FLAKY_CALL: 'on',
  LOG_LEVEL: 'trace',
  // A person may take their time, as outages do.
  POLICY: 'production',
};

interface Call {
  body?: unknown;
  /** Sent as it is, instead of `body`. */
  raw?: string;
  token?: string;
  headers?: Record<string, string>;
}

/** Sends a call to one of the APIs after the other, and keeps the answers that are errors. */
function caller(urls: string[]) {
  const refusals: { what: string; status: number; code: unknown; text: string }[] = [];
  let sent = 0;
  async function call(method: string, path: string, { body, raw, token = DECIDER, headers = {} }: Call = {}) {
    const url = urls[sent++ % urls.length];
    const content = raw ?? (body === undefined ? undefined : JSON.stringify(body));
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
      ...(content !== undefined && { body: content }),
    });
    const text = await answer.text();
    const json = JSON.parse(text) as Record<string, unknown>;
    const { status } = answer;
    const code = json.code ?? (json.error as { data?: { code?: string } } | undefined)?.data?.code;
    if (status >= 400)
      refusals.push({ what: `${method} ${path}`, status, code, text: `${[...answer.headers].join('\n')}\n${text}` });
    return { status, body: json };
  }
  return { call, refusals };
}
type Caller = ReturnType<typeof caller>['call'];

/** An order's calls through the API. */
function ordersOf(call: Caller) {
  const send = (id: string, command: string, body: object) =>
    call('POST', `/orders/${id}/signals/${command}`, {
      body,
      headers: { 'idempotency-key': canary(`${command}-${id}`) },
    });
  const isIn = (id: string, state: string) =>
    eventually(async () => (await call('GET', `/orders/${id}/status`)).body.state === state, 60_000);
  return {
    async start(given: { payment_id?: string; address?: object } = {}): Promise<string> {
      const id = freshId();
      const body = { payment_id: `pay-${id}`, address: ADDRESS, items: ITEMS, note: canary('ignored'), ...given };
      expect((await call('POST', `/orders/${id}/start`, { body, token: STARTER })).status).toBe(200);
      await isIn(id, 'awaiting_approval');
      return id;
    },
    approve: (id: string) => send(id, 'approve', {}),
    cancel: (id: string) => send(id, 'cancel', { reason: REASON }),
    move: (id: string, address: object = MOVED) => send(id, 'address', { address }),
    isIn,
    isRefusedByCarrier: (id: string) =>
      eventually(
        async () =>
          `${(await call('GET', `/orders/${id}/status`)).body.dispatch_failed_reason}`.includes('Unreachable'),
        60_000,
      ),
  };
}
type Orders = ReturnType<typeof ordersOf>;

/** The ends that orders come to, each after what leads to it. */
const LIVES: Record<string, (orders: Orders, call: Caller) => Promise<void>> = {
  async 'shipped; what comes after is refused'({ start, approve, cancel, move, isIn }, call) {
    const id = await start();
    await approve(id);
    await isIn(id, 'shipped');
    await Promise.all([cancel(id), move(id)]);
    const headers = { 'idempotency-key': canary(`approve-${id}`) };
    await call('POST', `/orders/${id}/signals/cancel`, { body: { reason: REASON }, headers });
    await call('POST', `/orders/${id}/start`, {
      body: { payment_id: `pay-${id}`, address: MOVED, items: ITEMS },
      token: STARTER,
    });
    for (const path of [`/orders/${id}`, '/orders']) expect((await call('GET', path)).status).toBe(200);
    expect((await call('GET', `/orders/${freshId()}`)).status).toBe(404);
  },
  async 'refused by the carrier, and shipped to another address'({ start, approve, move, isIn, isRefusedByCarrier }) {
    const id = await start({ address: REFUSED });
    await approve(id);
    await isRefusedByCarrier(id);
    await move(id);
    await isIn(id, 'shipped');
  },
  async 'refused by the carrier, canceled and refunded'({ start, approve, cancel, isIn, isRefusedByCarrier }) {
    const id = await start({ address: REFUSED });
    await approve(id);
    await isRefusedByCarrier(id);
    await cancel(id);
    await isIn(id, 'canceled');
  },
  async declined({ start, approve, isIn }) {
    const id = await start({ payment_id: `declined-${freshId()}` });
    await approve(id);
    await isIn(id, 'failed');
  },
  async 'canceled in its review, after another address'({ start, move, cancel, isIn }) {
    const id = await start();
    await move(id);
    await cancel(id);
    await isIn(id, 'canceled');
  },
};

/** Requests that are refused for what is in them. */
function malformed(id: string): [method: string, path: string, call: Call][] {
  const order = { payment_id: `pay-${id}`, address: ADDRESS, items: ITEMS };
  const start = `/orders/${id}/start`;
  const starts = [
    { ...order, address: { ...ADDRESS, line1: PHONE } },
    { ...order, address: { ...ADDRESS, line1: canary('long').repeat(20) } },
    { ...order, address: canary('address') },
    { ...order, address: [canary('address')] },
    { ...order, address: { [canary('city')]: '' } },
    { ...order, items: [{ sku: canary('sku').repeat(4), qty: canary('qty') }] },
    { ...order, items: [{ sku: PHONE, qty: PHONE }] },
    { ...order, items: canary('items') },
    { ...order, payment_id: `${canary('payment')} ` },
  ];
  const signals: [string, object][] = [
    ['cancel', { reason: canary('reason').repeat(20) }],
    ['cancel', { reason: PHONE }],
    ['address', { address: { ...MOVED, city: PHONE } }],
    ['address', { address: canary('address') }],
  ];
  const input = (value: unknown) => encodeURIComponent(JSON.stringify(value));
  return [
    ...starts.map((body): [string, string, Call] => ['POST', start, { body, token: STARTER }]),
    ...starts.map((body): [string, string, Call] => [
      'POST',
      '/trpc/orders.start',
      { body: { order_id: id, ...body }, token: STARTER },
    ]),
    ...signals.map(([command, body]): [string, string, Call] => ['POST', `/orders/${id}/signals/${command}`, { body }]),
    ['POST', '/trpc/orders.signal.cancel', { body: { order_id: id, reason: PHONE } }],
    ['POST', start, { raw: `{"address": {"line1": "${ADDRESS.line1}"`, token: STARTER }],
    ['POST', start, { raw: `[${ADDRESS.line1}]`, token: STARTER }],
    ['POST', '/trpc/orders.start', { raw: `{"address": "${ADDRESS.line1}`, token: STARTER }],
    ['POST', start, { body: { ...order, note: canary('large').repeat(4_000) }, token: STARTER }],
    ['POST', '/trpc/orders.start', { body: canary('large').repeat(4_000), token: STARTER }],
    ['POST', `/orders/${id}/signals/cancel`, { body: {}, headers: { 'idempotency-key': `${canary('key')} 2` } }],
    ['GET', `/orders?state=${canary('state')}`, {}],
    ['GET', `/orders?limit=${canary('limit')}&cursor=${canary('cursor')}`, {}],
    ['GET', `/orders?cursor=${btoa(canary('cursor'))}`, {}],
    ['GET', `/orders?state=${canary('state')}&state=${canary('state')}`, {}],
    ['GET', `/trpc/orders.list?input=${input({ state: canary('state'), limit: PHONE })}`, {}],
    ['GET', `/trpc/orders.list?input=${canary('input')}`, {}],
    ['GET', '/orders', { token: canary('token') }],
    ['GET', '/orders', { token: `${STARTER.slice(0, -3)}AAA` }],
    ['POST', '/codec/decode', { body: { payloads: canary('payloads') }, token: STAFF }],
    ['POST', '/codec/decode', { body: { payloads: [] } }],
  ];
}

/** Kills a server, and starts it again after `during`. */
async function outage(stack: Stack, name: 'sql' | 'temporal', during: () => Promise<void>): Promise<void> {
  const service = stack.services.findLast((one) => one.name === name);
  if (!service) throw new Error(`${name} was not started here`);
  process.kill(service.pid, 'SIGKILL');
  await service.exited;
  await during();
  await stack.startAgain(name);
}

/** The texts and bytes of a message, and of those in it. */
function contents(message: unknown): string {
  if (typeof message === 'string') return message;
  if (ArrayBuffer.isView(message))
    return Buffer.from(message.buffer, message.byteOffset, message.byteLength).toString('latin1');
  if (typeof message !== 'object' || message === null) return `${message}`;
  return Object.entries(message)
    .map(([name, value]) => `${name}=${contents(value)}`)
    .join('\n');
}

/** Everything that Temporal's API says of the workflows: their descriptions, with memo, search attributes and pending activities, and their histories. */
async function readTemporal({
  workflow,
  workflowService,
  options: { namespace },
}: Client): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for await (const { workflowId, runId, raw } of workflow.list()) {
    const execution = { workflowId, runId };
    texts.set(`${workflowId} in the list`, contents(raw));
    texts.set(
      `${workflowId} described`,
      contents(await workflowService.describeWorkflowExecution({ namespace, execution })),
    );
    const events: unknown[] = [];
    for (let nextPageToken: Uint8Array | undefined; ; ) {
      const page = await workflowService.getWorkflowExecutionHistory({
        namespace,
        execution,
        ...(nextPageToken && { nextPageToken }),
      });
      events.push(...(page.history?.events ?? []));
      if (!page.nextPageToken?.length) break;
      nextPageToken = page.nextPageToken;
    }
    texts.set(`${workflowId}'s history`, contents(events));
  }
  return texts;
}

/** The columns in which personal texts stand, as `table.column`; of events with their type. */
async function readSql(url: string): Promise<string[]> {
  const sql = await createConnection(url);
  const columns = new Set<string>();
  try {
    const [tables] = await sql.query<RowDataPacket[]>(
      'SELECT table_name AS name FROM information_schema.tables WHERE table_schema = DATABASE()',
    );
    for (const { name } of tables) {
      const [rows] = await sql.query<RowDataPacket[]>('SELECT * FROM ??', [name]);
      for (const row of rows)
        for (const [column, value] of Object.entries(row)) {
          const text = Buffer.isBuffer(value) || typeof value === 'string' ? value : JSON.stringify(value ?? '');
          const of = name === 'events' && column === 'payload_json' ? ` of \`${row.type}\`` : '';
          if (found(text).length > 0) columns.add(`\`${name}.${column}\`${of}`);
        }
    }
  } finally {
    await sql.end();
  }
  return [...columns].toSorted();
}

/** The files below a folder, but for the SQL server's data and the programs. */
async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .filter((path) => !path.startsWith(join(folder, 'sql/')) && !path.startsWith(join(folder, 'dist/')));
}

/** A line of a log without what it says of the caller, which is meant to be there. */
function withoutCaller(line: string): string {
  if (!line.startsWith('{') || !line.includes('"caller"')) return line;
  const { caller: _, ...rest } = JSON.parse(line) as Record<string, unknown>;
  return JSON.stringify(rest);
}

/** The columns that docs/operations.md says hold personal data. */
function documentedColumns(): string[] {
  const text = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const [, section = ''] = text.split('\n### Where personal data is\n');
  return [...(section.split('\n## ')[0] ?? '').matchAll(/^\| (`[^|]+) \|/gm)]
    .flatMap(([, cell = '']) => cell.split(', '))
    .toSorted();
}

/** What was seen of the orders while their programs ran, and the files that these leave. */
async function live() {
  const { folder, remove } = await throwAwayFolder(() => undefined);
  try {
    const seen = await watched(folder);
    const paths = await filesOf(folder);
    const files = paths.map(async (path) => [path.slice(folder.length), await readFile(path)] as const);
    return { ...seen, files: new Map(await Promise.all(files)) };
  } finally {
    await remove();
  }
}

/** Runs the programs and the orders, and returns what was seen of these, once the programs have ended. */
async function watched(folder: string) {
  const stack = await startStack({ folder, persistent: false, durable: true, env: SETTINGS, say: () => undefined });
  const { API_URL, DATABASE_URL, TEMPORAL_ADDRESS, TEMPORAL_HTTP_URL, TEMPORAL_METRICS_URL = '' } = stack.addresses;
  const db = openDatabase(DATABASE_URL);
  const connection = Connection.lazy({ address: TEMPORAL_ADDRESS });
  const closing = [db.close, () => connection.close(), stack.stop];
  try {
    const port = await freePort();
    const overHttp = await startApi({
      folder,
      built: join(folder, 'dist'),
      name: 'api-over-http',
      port,
      env: { ...SETTINGS, DATABASE_URL, TEMPORAL_ADDRESS: TEMPORAL_HTTP_URL },
    });
    closing.unshift(overHttp.stop);
    const { call, refusals } = caller([API_URL, `http://${HOST}:${port}`]);
    const orders = ordersOf(call);
    const plain = createTemporalClient(connection);
    const encryption = createEncryption(ENCRYPTION, createOrderKeyStore(db), { makesKeys: true });
    const inLog = (name: string, text: string) =>
      eventually(async () => (await readFile(join(folder, 'logs', name), 'utf8')).includes(text), 60_000);
    const temporal = new Map<string, string>();
    const look = async () => {
      for (const [what, text] of await readTemporal(plain)) temporal.set(`${temporal.size} ${what}`, text);
    };
    const startRefused = () =>
      call('POST', `/orders/${freshId()}/start`, {
        body: { payment_id: 'pay', address: ADDRESS, items: ITEMS },
        token: STARTER,
      });

    const clear = { address: { line1: IN_CLEAR, city: 'Rome' }, items: [{ sku: 'A', qty: 1 }] };
    await startAtTemporal(plain, freshId(), clear);
    await Promise.all([
      ...Object.values(LIVES).map((life) => life(orders, call)),
      refuseAtTemporal(createTemporalClient(connection, 'default', encryption)),
    ]);
    const [id, moving, review] = await Promise.all([orders.start(), orders.start(), orders.start()]);
    for (const [method, path, sent] of malformed(id)) await call(method, path, sent);
    // A worker that had not yet read an order's key would wait for SQL, and no attempt would fail.
    await Promise.all([id, moving, review].map((each) => orders.isIn(each, 'awaiting_approval')));

    await outage(stack, 'sql', async () => {
      // An API that has not read the order's key before can't read it without SQL. The other API, which started the order, has it and takes the command.
      const taken = (send: () => Promise<{ status: number }>) => eventually(async () => (await send()).status < 300);
      await Promise.all([taken(() => orders.approve(id)), taken(() => orders.move(moving)), startRefused()]);
      for (const path of [`/orders/${id}`, '/orders', '/readyz']) await call('GET', path);
      await inLog('worker.log', 'failed attempts not recorded');
      await look();
    });
    await orders.isIn(id, 'shipped');
    await outage(stack, 'temporal', async () => {
      // Once to each API.
      const sends = [
        startRefused,
        () => orders.cancel(review),
        () => orders.move(review),
        () => call('GET', '/readyz'),
      ];
      await Promise.all(sends.flatMap((send) => [send(), send()]));
    });
    for (const open of [review, moving]) {
      await eventually(async () => (await orders.cancel(open)).status < 300, 60_000);
      await orders.isIn(open, 'canceled');
    }

    const histories = await shownByCli(TEMPORAL_ADDRESS, orderWorkflowId(recordedId(SHOP, id)), API_URL);
    await look();
    const metrics = await (await fetch(TEMPORAL_METRICS_URL)).text();
    return { id, temporal, columns: await readSql(DATABASE_URL), metrics, refusals, histories };
  } finally {
    for (const close of closing) await close();
  }
}

const startAtTemporal = (client: Client, id: string, order: object) =>
  client.workflow.start(ORDER_WORKFLOW, {
    workflowId: orderWorkflowId(id),
    taskQueue: ORDERS_QUEUE,
    args: [{ order_id: id, payment_id: `pay-${id}`, ...order, policy: 'production' }],
  });

/** Another caller of Temporal, who encrypts: what it sends is refused by the workflow, not by the API. */
async function refuseAtTemporal(client: Client): Promise<void> {
  const address = { line1: PHONE, city: canary('city'), [canary('a-field')]: PHONE };
  const invalid = await startAtTemporal(client, freshId(), { address, items: [{ sku: PHONE, qty: canary('qty') }] });
  expect(await invalid.result()).toBe('failed');
  const valid = await startAtTemporal(client, freshId(), { address: ADDRESS, items: ITEMS });
  await valid.signal('update_address', address);
  await valid.signal('dispatch_failed', canary('words'));
  await expect(valid.executeUpdate('update_address', { args: [address] })).rejects.toThrow();
  await valid.signal('cancel_order', REASON);
  expect(await valid.result()).toBe('canceled');
}

/** What Temporal's CLI shows of a workflow, without the codec endpoint, with it, and with it for a caller who may not use it. */
async function shownByCli(address: string, workflowId: string, api: string) {
  const cli = await findTemporalCli(() => undefined);
  const show = async (...args: string[]) => {
    const show = ['workflow', 'show', '--workflow-id', workflowId, '--output', 'json', '--address', address];
    const { stdout, stderr } = await promisify(execFile)(cli, [...show, ...args], { maxBuffer: 2 ** 24 }).catch(
      (error) => error,
    );
    // As JSON it shows payloads in base64.
    return `${stdout}${stderr}`.replace(/"data": "([^"]*)"/g, (_, data) => Buffer.from(data, 'base64').toString());
  };
  const codec = (token: string) => ['--codec-endpoint', `${api}/codec`, '--codec-auth', `Bearer ${token}`];
  return { without: await show(), staff: await show(...codec(STAFF)), shop: await show(...codec(DECIDER)) };
}

// It kills the servers, and reads their files.
describe.skipIf(process.env.DATABASE_URL || process.env.TEMPORAL_ADDRESS)('of what is personal nothing is', () => {
  let seen: Awaited<ReturnType<typeof live>>;

  beforeAll(async () => {
    seen = await live();
  }, 240_000);

  test('in what Temporal’s API says of workflows, with its database up and down, nor in its metrics', () => {
    const texts = [...seen.temporal];
    expect(texts.filter(([, text]) => text.includes(IN_CLEAR))).not.toEqual([]);
    expect(texts.filter(([, text]) => text.includes('binary/encrypted')).length).toBeGreaterThan(20);
    expect(texts.flatMap(([what, text]) => found(text).map((around) => [what, around]))).toEqual([]);
    expect(seen.metrics).toContain('service_requests');
    expect(found(seen.metrics)).toEqual([]);
  });

  test('in SQL, but in the columns that are documented for it', () => {
    expect(seen.columns).toEqual(documentedColumns());
  });

  test('in a file: neither in Temporal’s database nor in a log at any level', () => {
    const { files } = seen;
    const database = [...files].filter(([path]) => path.startsWith('/temporal.db'));
    expect(database.some(([, bytes]) => bytes.includes(IN_CLEAR))).toBe(true);
    for (const log of ['api', 'api-over-http', 'worker']) {
      const text = `${files.get(`/logs/${log}.log`)}`;
      expect(text).toContain(seen.id);
      if (log === 'worker') expect(text).toContain('"level":20');
    }
    for (const log of ['sql', 'temporal']) expect([...files.keys()]).toContain(`/logs/${log}.log`);
    const hits = [...files].flatMap(([path, bytes]) => {
      const text = path.endsWith('.log') ? `${bytes}`.split('\n').map(withoutCaller).join('\n') : bytes;
      return found(text).map((around) => [path, around]);
    });
    expect(hits).toEqual([]);
    const tokens = [STARTER, DECIDER, STAFF].map(signatureOf);
    expect([...files].filter(([, bytes]) => tokens.some((token) => bytes.includes(token)))).toEqual([]);
  });

  test('in the answer to a call that is refused or fails', () => {
    const codes = new Set(seen.refusals.map(({ code }) => code));
    expect([...codes].toSorted()).toEqual([
      'FORBIDDEN',
      'INVALID',
      'INVALID_JSON',
      'NOT_FOUND',
      'ORDER_CONFLICT',
      'PAYLOAD_TOO_LARGE',
      'TOO_LATE',
      'UNAUTHENTICATED',
      'UNAVAILABLE',
      undefined,
    ]);
    expect(seen.refusals.flatMap(({ what, text }) => found(text).map((around) => [what, around]))).toEqual([]);
  });

  test('shown by Temporal’s CLI, but to staff through the codec endpoint, which logs for whom and of which order', () => {
    const { without, staff, shop } = seen.histories;
    for (const text of [without, shop])
      expect([found(text), text.includes('"events"')]).toEqual([[], text === without]);
    for (const personal of [ADDRESS.line1, ADDRESS.phone, ITEMS[0]?.sku, canary('starter')])
      expect(staff).toContain(personal);
    const lines = `${seen.files.get('/logs/api.log')}`.split('\n').filter((line) => line.includes('"/codec/decode"'));
    const uses = lines.map((line) => JSON.parse(line));
    expect(uses.filter(({ decoded }) => decoded)).not.toEqual([]);
    for (const { decoded, caller, status } of uses)
      if (decoded?.length)
        expect([decoded, caller.sub, status]).toEqual([[recordedId(SHOP, seen.id)], canary('staff'), 200]);
  });
});
