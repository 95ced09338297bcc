/**
 * Encrypts what Temporal stores of orders: each order's payloads with a key of its own, by AES-256-GCM. The order's key stands in SQL,
 * encrypted with a key of the configuration; once its row is deleted, the order's histories can't be read any more. WebCrypto alone, so
 * that it runs on Node and on edge runtimes.
 */
import { base64url } from 'jose';
import { OrderError } from './error.ts';
import { RECORDED_ID_PATTERN } from './id.ts';
import type { Hash } from './request-hash.ts';
import { ENCRYPTED, ENCRYPTION_KEY_ID, orderOfWorkflow } from './temporal.ts';

/** A payload as Temporal's SDK has it. */
export interface Payload {
  metadata?: Record<string, Uint8Array> | null;
  data?: Uint8Array | null;
}

/** The workflow that a payload belongs to; a part of the SDK's SerializationContext. */
export interface Context {
  workflowId?: string;
}

/** An order's key as SQL has it. `kek`: the id of the configuration's key that it is encrypted with. */
export interface WrappedKey {
  kek: string;
  wrapped: string;
}

/** Rejects when the database fails. */
export interface KeyStore {
  /** Undefined when the order has no key. */
  find(orderId: string): Promise<WrappedKey | undefined>;
  /** False, without a change, when the order has a key. */
  add(orderId: string, key: WrappedKey): Promise<boolean>;
}

export interface EncryptionConfig {
  /** As ENCRYPTION_KEYS has them, `id:key`. The first is used for new orders. */
  ENCRYPTION_KEYS?: readonly string[] | undefined;
  /** Whether payloads are encrypted, not only decrypted. */
  ENCRYPT: 'on' | 'off';
}

/** A codec for payloads, as Temporal's SDK takes it, and the keyed hashes of requests. */
export interface Encryption {
  /** Makes the key of an order that is about to be started, where payloads are encrypted. Rejects when it can't be stored or read. */
  prepare(orderId: string): Promise<void>;
  /** Encrypts payloads of an order's workflows; those of any other workflow stay as they are. */
  encode(payloads: Payload[], context?: Context): Promise<Payload[]>;
  /**
   * Payloads in other encodings stay as they are, and so do those of an order whose key is not there: whoever reads them fails. One
   * that the order's key does not fit becomes null, like any other that a caller of Temporal made up.
   */
  decode(payloads: Payload[], context?: Context): Promise<Payload[]>;
  /** What new requests are hashed with; undefined where payloads are not encrypted. */
  hash: Hash | undefined;
  /** What known requests may have been hashed with. */
  hashes: readonly Hash[];
}

type Key = Awaited<ReturnType<typeof importKey>>;

const KEY_BYTES = 32;
const IV_BYTES = 12;
const IN_CLEAR = 'in-clear';
const NEWLINE = 10;

/** Keys of orders that are kept in memory; about a kilobyte each. */
const MAX_KEPT = 10_000;
/** After this a kept key is read again, as its row may have been deleted. If the database fails, it is used for as long once more. */
const TRUSTED_FOR_MS = 600_000;

const utf8 = (text: string) => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array | undefined): string | undefined => bytes && new TextDecoder().decode(bytes);

const UNREADABLE: Payload = { metadata: { encoding: utf8('json/plain') }, data: utf8('null') };

/**
 * The encryption that the configuration asks for; undefined when it has no keys. `makesKeys`: whether an order without a key, which was
 * started in clear, gets one at the first payload that is encrypted; else its payloads stay in clear.
 */
export function createEncryption(
  { ENCRYPTION_KEYS, ENCRYPT }: EncryptionConfig,
  store: KeyStore,
  { makesKeys = false } = {},
): Encryption | undefined {
  const keks = new Map((ENCRYPTION_KEYS ?? []).map((key) => key.split(':') as [string, string]));
  const [first] = keks;
  if (!first) return undefined;
  const [kek, firstKey] = first;
  const encrypts = ENCRYPT === 'on';
  /** The least recently used first. */
  const kept = new Map<string, { key: Key; readAt: number }>();

  function keep(orderId: string, key: Key, readAt = performance.now()): Key {
    kept.delete(orderId);
    kept.set(orderId, { key, readAt });
    for (const [oldest] of kept) {
      if (kept.size <= MAX_KEPT) break;
      kept.delete(oldest);
    }
    return key;
  }

  /** Undefined when the order has none, `unknown` when no key of the configuration fits it. */
  async function keyOf(orderId: string): Promise<Key | 'unknown' | undefined> {
    const known = kept.get(orderId);
    if (known && performance.now() - known.readAt < TRUSTED_FOR_MS) return keep(orderId, known.key, known.readAt);
    let row: WrappedKey | undefined;
    try {
      row = await store.find(orderId);
    } catch (error) {
      if (known) return keep(orderId, known.key);
      throw error;
    }
    kept.delete(orderId);
    if (!row) return undefined;
    const wrapping = keks.get(row.kek);
    const raw = wrapping && (await open(await importKey(wrapping), base64url.decode(row.wrapped), orderId));
    return raw ? keep(orderId, await importKey(raw)) : 'unknown';
  }

  async function makeKey(orderId: string): Promise<Key> {
    const raw = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
    const wrapped = base64url.encode(await seal(await importKey(firstKey), raw, orderId));
    if (await store.add(orderId, { kek, wrapped })) return keep(orderId, await importKey(raw));
    // Another process was first.
    return usable(await keyOf(orderId));
  }

  return {
    async prepare(orderId) {
      if (encrypts) await makeKey(orderId);
    },
    async encode(payloads, context) {
      const orderId = orderOfWorkflow(context?.workflowId ?? '');
      if (!encrypts || orderId === undefined || payloads.every(isInClear)) return payloads;
      const found = (await keyOf(orderId)) ?? (makesKeys ? await makeKey(orderId) : undefined);
      if (!found) return payloads;
      const key = usable(found);
      return Promise.all(payloads.map((payload) => (isInClear(payload) ? payload : encrypted(payload, key, orderId))));
    },
    decode: (payloads, context) =>
      Promise.all(
        payloads.map(async (payload) => {
          if (textOf(payload.metadata?.encoding) !== ENCRYPTED) return payload;
          const orderId = textOf(payload.metadata?.[ENCRYPTION_KEY_ID]) ?? '';
          // A copy of another order's payload must not be decrypted for whoever put it there.
          const isForeign = context?.workflowId !== undefined && orderOfWorkflow(context.workflowId) !== orderId;
          if (isForeign || !RECORDED_ID_PATTERN.test(orderId)) return UNREADABLE;
          const key = await keyOf(orderId);
          if (!key || key === 'unknown') return payload;
          const plain = await open(key, payload.data ?? new Uint8Array(), orderId);
          return plain ? payloadIn(plain) : UNREADABLE;
        }),
      ),
    hash: encrypts ? keyedHash(firstKey) : undefined,
    hashes: [...keks.values()].map(keyedHash),
  };
}

/** The payload, marked to stay as it is: for what whoever lists workflows reads. */
export const inClear = (payload: Payload): Payload => ({
  ...payload,
  metadata: { ...payload.metadata, [IN_CLEAR]: utf8('true') },
});

const isInClear = ({ metadata }: Payload): boolean => metadata?.[IN_CLEAR] !== undefined;

function usable(key: Key | 'unknown' | undefined): Key {
  if (key && key !== 'unknown') return key;
  throw new OrderError('UNAVAILABLE', 'the key of the order can’t be read', { retry_after: 1 });
}

async function encrypted({ metadata, data }: Payload, key: Key, orderId: string): Promise<Payload> {
  const head = Object.entries(metadata ?? {}).map(([name, value]) => [name, base64url.encode(value)]);
  const plain = concatenated(utf8(`${JSON.stringify(head)}\n`), data ?? new Uint8Array());
  return {
    metadata: { encoding: utf8(ENCRYPTED), [ENCRYPTION_KEY_ID]: utf8(orderId) },
    data: await seal(key, plain, orderId),
  };
}

function payloadIn(plain: Uint8Array): Payload {
  const end = plain.indexOf(NEWLINE);
  const head: [string, string][] = JSON.parse(new TextDecoder().decode(plain.subarray(0, end)));
  return {
    metadata: Object.fromEntries(head.map(([name, value]) => [name, base64url.decode(value)])),
    data: plain.slice(end + 1),
  };
}

/** `key`: 32 bytes, or the same in base64url. */
const importKey = (key: Uint8Array<ArrayBuffer> | string) =>
  crypto.subtle.importKey('raw', bytesOf(key), 'AES-GCM', false, ['encrypt', 'decrypt']);

const bytesOf = (key: Uint8Array<ArrayBuffer> | string) =>
  typeof key === 'string' ? new Uint8Array(base64url.decode(key)) : key;

const cipher = (iv: Uint8Array, orderId: string) => ({
  name: 'AES-GCM',
  iv: new Uint8Array(iv),
  additionalData: utf8(orderId),
});

/** The initialization vector, then what it encrypts, bound to the order. */
async function seal(key: Key, plain: Uint8Array<ArrayBuffer>, orderId: string): Promise<Uint8Array<ArrayBuffer>> {
  const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
  return concatenated(iv, new Uint8Array(await crypto.subtle.encrypt(cipher(iv, orderId), key, plain)));
}

/** Undefined when this key has not sealed it for the order. */
async function open(key: Key, sealed: Uint8Array, orderId: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    const iv = sealed.subarray(0, IV_BYTES);
    return new Uint8Array(
      await crypto.subtle.decrypt(cipher(iv, orderId), key, new Uint8Array(sealed.subarray(IV_BYTES))),
    );
  } catch {
    return undefined;
  }
}

function concatenated(one: Uint8Array, other: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

async function mac(key: Uint8Array<ArrayBuffer>, text: string): Promise<Uint8Array<ArrayBuffer>> {
  const imported = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', imported, utf8(text)));
}

/** HMAC-SHA-256, hex, with a key derived from this one: without it nobody can try values until one has the hash. */
const keyedHash =
  (key: string): Hash =>
  async (text) =>
    Array.from(await mac(await mac(bytesOf(key), 'request hash'), text), (byte) =>
      byte.toString(16).padStart(2, '0'),
    ).join('');
