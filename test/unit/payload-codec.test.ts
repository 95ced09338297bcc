/** Payloads are encrypted in one format on every runtime, which later versions must go on reading. */
import { createHmac } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defaultPayloadConverter } from '@temporalio/common';
import { PROGRAMS, readConfig } from '@trellis/contracts/config/variables';
import { OrderError } from '@trellis/contracts/error';
import {
  createEncryption,
  inClear,
  type KeyStore,
  type Payload,
  type WrappedKey,
} from '@trellis/contracts/payload-codec';
import { orderOfWorkflow, orderWorkflowId, settleWorkflowId, shippingWorkflowId } from '@trellis/contracts/temporal';
import { payloadConverter } from '@trellis/workers/payload-converter';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { bundleWorker, startWorkerd } from '../trials/workerd.ts';

const base64url = (fill: number) => Buffer.alloc(32, fill).toString('base64url');
const KEY = `k1:${base64url(1)}`;
const OTHER_KEY = `k2:${base64url(9)}`;
const ORDER = { type: 'workflow', namespace: 'default', workflowId: 'order-o-1' };
const ANOTHER = { ...ORDER, workflowId: 'order-o-2' };
const ADDRESS = { line1: '88 Private Ave' };

/** Made with node:crypto: the key 0202…, encrypted with 0101…, and a payload that it encrypts. */
const VECTOR = {
  wrapped: { kek: 'k1', wrapped: 'AwMDAwMDAwMDAwMD-mMWmP2GNWuv_uRlzhsmqroxo0-FzcCwrhK_RKhIhHGynEAje0PPpjK0P2DTQ6zY' },
  data: 'BAQEBAQEBAQEBAQEXxfza5Ao_z70MLDCmmF4yFXEu6C7XPk8-LJavunmVNNJnFpIoxYjezTrng3ADp6A18t519pVZ5EJSEWwh9nG7jzuj86or-GcT7s',
};

const sealedVector: Payload = {
  metadata: { encoding: Buffer.from('binary/encrypted'), 'encryption-key-id': Buffer.from('o-1') },
  data: Buffer.from(VECTOR.data, 'base64url'),
};

/** What stands in SQL, in memory. */
function keyStore(rows: Record<string, WrappedKey> = {}) {
  const found = new Map(Object.entries(rows));
  const store: KeyStore = {
    find: async (orderId) => found.get(orderId),
    add: async (orderId, key) => !found.has(orderId) && Boolean(found.set(orderId, key)),
  };
  return { rows: found, store };
}

function encryptionWith(keys: string[], store: KeyStore, { encrypt = true, makesKeys = true } = {}) {
  const encryption = createEncryption({ ENCRYPTION_KEYS: keys, ENCRYPT: encrypt ? 'on' : 'off' }, store, { makesKeys });
  if (!encryption) throw new Error('there are keys');
  return encryption;
}

const payloadOf = (value: unknown): Payload => defaultPayloadConverter.toPayload(value);
const valueIn = (payload: Payload | undefined): unknown => payload && payloadConverter.fromPayload(payload);
const encodingOf = (payload: Payload | undefined) => Buffer.from(payload?.metadata?.encoding ?? []).toString();

test('what another implementation of the format has encrypted is read', async () => {
  const { store } = keyStore({ 'o-1': VECTOR.wrapped });
  const [opened] = await encryptionWith([KEY], store).decode([sealedVector], ORDER);
  expect(valueIn(opened)).toEqual(ADDRESS);
});

test('Node and the edge runtime read what the other has encrypted', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'payload-codec-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const module = fileURLToPath(new URL('../../contracts/payload-codec.ts', import.meta.url));
  const entry = join(folder, 'entry.js');
  await writeFile(
    entry,
    `import { createEncryption } from ${JSON.stringify(module)};
    const config = { ENCRYPTION_KEYS: [${JSON.stringify(KEY)}], ENCRYPT: 'on' };
    const encryption = createEncryption(config, { find: async () => (${JSON.stringify(VECTOR.wrapped)}) });
    const change = (change, { metadata, data }) => ({
      metadata: Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name, change(value)])),
      data: change(data),
    });
    export default {
      async fetch(request) {
        if (request.method === 'GET') return new Response('ok');
        const given = change((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), await request.json());
        const opened = await encryption.decode([given], ${JSON.stringify(ORDER)});
        const [sealed] = await encryption.encode(opened, ${JSON.stringify(ORDER)});
        const text = new TextDecoder().decode(opened[0].data);
        return Response.json({ text, sealed: change((bytes) => btoa(String.fromCharCode(...bytes)), sealed) });
      },
    };`,
  );
  const worker = await startWorkerd(await bundleWorker(join(folder, 'out'), entry), {});
  onTestFinished(worker.stop);
  const here = encryptionWith([KEY], keyStore({ 'o-1': VECTOR.wrapped }).store);
  const [sealed] = await here.encode([payloadOf(ADDRESS)], ORDER);
  const answer = await fetch(worker.url, { method: 'POST', body: JSON.stringify(changed(base64, sealed)) });
  const there = (await answer.json()) as { text: string; sealed: { metadata: Record<string, string>; data: string } };
  expect(JSON.parse(there.text)).toEqual(ADDRESS);
  expect(there.sealed.data).not.toBe(base64(sealed?.data ?? new Uint8Array()));
  const back = changed((text: string) => Buffer.from(text, 'base64'), there.sealed);
  expect(valueIn((await here.decode([back], ORDER))[0])).toEqual(ADDRESS);
});

const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
function changed<V, W>(
  change: (value: V) => W,
  payload: { metadata?: Record<string, V> | null; data?: V | null } = {},
) {
  const metadata = Object.entries(payload.metadata ?? {}).map(([name, value]) => [name, change(value)] as const);
  return { metadata: Object.fromEntries(metadata), data: change(payload.data as V) };
}

test('a payload is encrypted anew each time, and carries nothing of its text', async () => {
  const encryption = encryptionWith([KEY], keyStore().store);
  const [one, other] = await encryption.encode([payloadOf(ADDRESS), payloadOf(ADDRESS)], ORDER);
  expect(encodingOf(one)).toBe('binary/encrypted');
  expect(base64(one?.data ?? new Uint8Array())).not.toBe(base64(other?.data ?? new Uint8Array()));
  expect(Buffer.from(one?.data ?? []).toString('latin1')).not.toMatch(/Private|json/);
  expect((await encryption.decode([one ?? {}, other ?? {}], ORDER)).map(valueIn)).toEqual([ADDRESS, ADDRESS]);
});

test('every workflow of an order uses the order’s key, and no other workflow has one', async () => {
  const ids = [orderWorkflowId('a-1-2'), shippingWorkflowId('a-1-2', 12), settleWorkflowId('a-1-2')];
  expect(ids.map(orderOfWorkflow)).toEqual(['a-1-2', 'a-1-2', 'a-1-2']);
  expect(['order-', 'ship-o-1', 'my-workflow', 'order-a/b', ''].map(orderOfWorkflow)).toEqual([
    undefined,
    // Attempt 1 of the order `o`.
    'o',
    undefined,
    undefined,
    undefined,
  ]);
  const { rows, store } = keyStore();
  const [clear] = await encryptionWith([KEY], store).encode([payloadOf(ADDRESS)], { workflowId: 'my-workflow' });
  expect([encodingOf(clear), rows.size]).toEqual(['json/plain', 0]);
});

describe('a payload is null, like others that callers make up, when the order’s key does not fit it', () => {
  const { store } = keyStore({ 'o-1': VECTOR.wrapped });
  const encryption = encryptionWith([KEY], store);
  const { metadata, data } = sealedVector;
  const made: Record<string, [Payload, object]> = {
    'with a changed byte': [{ metadata: metadata ?? {}, data: Buffer.from(data ?? []).fill(0, 30, 31) }, ORDER],
    'that is too short': [{ metadata: metadata ?? {}, data: Buffer.from('x') }, ORDER],
    'without data': [{ metadata: metadata ?? {} }, ORDER],
    'without the name of a key': [
      { metadata: { encoding: Buffer.from('binary/encrypted') }, data: data ?? null },
      ORDER,
    ],
    'copied from another order': [sealedVector, ANOTHER],
    'copied into a workflow of another kind': [sealedVector, { ...ORDER, workflowId: 'my-workflow' }],
    'that says it is of another order': [
      { metadata: { ...metadata, 'encryption-key-id': Buffer.from('o-2') }, data: data ?? null },
      ORDER,
    ],
  };
  test.each(Object.keys(made))('%s', async (which) => {
    const [payload = {}, context] = made[which] ?? [];
    const [opened] = await encryption.decode([payload], context);
    expect(valueIn(opened)).toBeNull();
  });
});

describe('whoever lacks the key fails, so that the order waits', () => {
  test('without any key', () => {
    expect(createEncryption({ ENCRYPT: 'off' }, keyStore().store)).toBeUndefined();
    expect(() => valueIn(sealedVector)).toThrow('no key');
  });

  test.each([
    ['the order has no row', [KEY], {}],
    ['its row names a key that is not configured', [OTHER_KEY], { 'o-1': VECTOR.wrapped }],
    ['the key of that name is another one', [`k1:${base64url(7)}`], { 'o-1': VECTOR.wrapped }],
  ])('when %s', async (_, keys, rows) => {
    const [kept] = await encryptionWith(keys, keyStore(rows).store).decode([sealedVector], ORDER);
    expect(() => valueIn(kept)).toThrow('no key');
  });

  test('and does not write in clear, nor with a key of its own', async () => {
    const { rows, store } = keyStore({ 'o-1': VECTOR.wrapped });
    const encoding = encryptionWith([OTHER_KEY], store).encode([payloadOf(ADDRESS)], ORDER);
    await expect(encoding).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(rows.get('o-1')).toBe(VECTOR.wrapped);
  });
});

test('a new order’s key is encrypted with the first key, and read with any', async () => {
  const { rows, store } = keyStore({ 'o-1': VECTOR.wrapped });
  const rotated = encryptionWith([OTHER_KEY, KEY], store);
  await rotated.prepare('o-2');
  expect(rows.get('o-2')?.kek).toBe('k2');
  const [old] = await rotated.encode([payloadOf(ADDRESS)], ORDER);
  const before = encryptionWith([KEY], store);
  expect(valueIn((await before.decode([old ?? {}], ORDER))[0])).toEqual(ADDRESS);
});

test('two processes that make an order’s key at once use the one that was stored', async () => {
  const { store } = keyStore();
  const both = [encryptionWith([KEY], store), encryptionWith([KEY], store)];
  const sealed = await Promise.all(both.map((each) => each.encode([payloadOf(ADDRESS)], ORDER)));
  const opened = await Promise.all(
    sealed.map(([payload = {}]) => encryptionWith([KEY], store).decode([payload], ORDER)),
  );
  expect(opened.map(([payload]) => valueIn(payload))).toEqual([ADDRESS, ADDRESS]);
});

test('an order that was started in clear stays so for the API, and gets a key from a worker', async () => {
  const { rows, store } = keyStore();
  const [ofApi] = await encryptionWith([KEY], store, { makesKeys: false }).encode([payloadOf(ADDRESS)], ORDER);
  expect([encodingOf(ofApi), rows.size]).toEqual(['json/plain', 0]);
  const [ofWorker] = await encryptionWith([KEY], store).encode([payloadOf(ADDRESS)], ORDER);
  expect([encodingOf(ofWorker), rows.size]).toEqual(['binary/encrypted', 1]);
});

test('with keys and ENCRYPT off, payloads are read and not encrypted, and no key is made', async () => {
  const { rows, store } = keyStore({ 'o-1': VECTOR.wrapped });
  const reading = encryptionWith([KEY], store, { encrypt: false });
  await reading.prepare('o-2');
  expect(rows.size).toBe(1);
  expect(encodingOf((await reading.encode([payloadOf(ADDRESS)], ORDER))[0])).toBe('json/plain');
  expect(valueIn((await reading.decode([sealedVector], ORDER))[0])).toEqual(ADDRESS);
  expect(reading.hash).toBeUndefined();
});

test('a payload that is marked so stays in clear, without a key', async () => {
  const { rows, store } = keyStore();
  const [clear] = await encryptionWith([KEY], store).encode([inClear(payloadOf('hash'))], ORDER);
  expect([valueIn(clear), rows.size]).toEqual(['hash', 0]);
});

test('while the keys can’t be read, what has no known key rejects, and known keys go on to be used', async () => {
  const { store } = keyStore({ 'o-1': VECTOR.wrapped });
  let isDown = false;
  const failing =
    <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
    (...args: A) =>
      isDown ? Promise.reject(new OrderError('UNAVAILABLE', 'down', { retry_after: 1 })) : call(...args);
  const encryption = encryptionWith([KEY], { find: failing(store.find), add: failing(store.add) });
  await encryption.decode([sealedVector], ORDER);
  isDown = true;
  expect(valueIn((await encryption.decode([sealedVector], ORDER))[0])).toEqual(ADDRESS);
  await expect(encryption.encode([payloadOf(ADDRESS)], ANOTHER)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await expect(encryption.prepare('o-3')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

test('a deleted key is used for ten minutes at most, and for longer only while the keys can’t be read', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const { rows, store } = keyStore({ 'o-1': VECTOR.wrapped });
  let reads = 0;
  let isDown = false;
  const find = async (orderId: string) => {
    reads += 1;
    if (isDown) throw new OrderError('UNAVAILABLE', 'down', { retry_after: 1 });
    return store.find(orderId);
  };
  const encryption = encryptionWith([KEY], { ...store, find });
  const isRead = async () => encodingOf((await encryption.decode([sealedVector], ORDER))[0]) === 'json/plain';
  expect(await isRead()).toBe(true);
  rows.delete('o-1');
  vi.advanceTimersByTime(599_000);
  expect([await isRead(), reads]).toEqual([true, 1]);
  isDown = true;
  vi.advanceTimersByTime(2_000);
  expect([await isRead(), await isRead(), reads]).toEqual([true, true, 2]);
  isDown = false;
  vi.advanceTimersByTime(600_000);
  expect([await isRead(), reads]).toEqual([false, 3]);
});

describe('the configuration of api, edge and worker', () => {
  const SERVERS = { DATABASE_URL: 'https://u:p@sql', AUTH: 'off', TEMPORAL_ADDRESS: 'https://temporal' };
  const PROGRAM_VARIABLES = {
    api: SERVERS,
    edge: SERVERS,
    worker: { ...SERVERS, TEMPORAL_ADDRESS: 'temporal:7233' },
  };
  const programs = Object.keys(PROGRAM_VARIABLES) as (keyof typeof PROGRAM_VARIABLES)[];
  const read = (program: keyof typeof PROGRAM_VARIABLES, env: Record<string, string>) =>
    readConfig(PROGRAMS[program], { ...PROGRAM_VARIABLES[program], ...env });

  test.each(programs)('of %s encrypts nothing unless it says so, and takes several keys', (program) => {
    expect(read(program, {})).toMatchObject({ ENCRYPT: 'off' });
    expect(read(program, {}).ENCRYPTION_KEYS).toBeUndefined();
    const ENCRYPTION_KEYS = `${KEY}, ${OTHER_KEY}`;
    expect(read(program, { ENCRYPTION_KEYS, ENCRYPT: 'on' })).toMatchObject({ ENCRYPTION_KEYS: [KEY, OTHER_KEY] });
  });

  test.each(programs)('of %s is refused with what is wrong, and without the key', (program) => {
    for (const [env, message] of [
      [{ ENCRYPT: 'on' }, /^ENCRYPTION_KEYS is not set, and ENCRYPT is on$/],
      [{ ENCRYPT: 'yes' }, /^ENCRYPT must be on or off$/],
      [{ ENCRYPTION_KEYS: KEY.slice(0, -1) }, /^ENCRYPTION_KEYS must be keys as npm run encryption-key prints them/],
      [{ ENCRYPTION_KEYS: base64url(1) }, /^ENCRYPTION_KEYS must be keys as/],
      [{ ENCRYPTION_KEYS: `${KEY},k1:${base64url(5)}` }, /^ENCRYPTION_KEYS must be keys of different names$/],
    ] as const) {
      const refused = () => read(program, env);
      expect(refused).toThrow(message);
      expect(refused).not.toThrow(new RegExp(base64url(1).slice(0, 20)));
    }
  });
});

test('requests are hashed with a key that is derived from the first, and recognised by any', async () => {
  const { hash, hashes } = encryptionWith([KEY, OTHER_KEY], keyStore().store);
  const derived = createHmac('sha256', Buffer.alloc(32, 1)).update('request hash').digest();
  const expected = createHmac('sha256', derived).update('abc').digest('hex');
  expect(await hash?.('abc')).toBe(expected);
  expect(expected).toMatch(/^[0-9a-f]{64}$/);
  expect(await hashes[0]?.('abc')).toBe(expected);
  expect(await hashes[1]?.('abc')).not.toBe(expected);
});
