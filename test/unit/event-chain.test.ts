/** The hashes in the audit trail are the same in every version and on every database. */
import { createHash } from 'node:crypto';
import { erasedEvent, type HashedEvent, hashOf, saltFor } from '@trellis/drizzle/event-chain';
import { expect, test } from 'vitest';

const EVENT: HashedEvent = {
  order_id: 'red~o-1',
  type: 'order_canceled',
  dedupe_key: 'order_canceled',
  payload: { state: 'canceled', reason: 'moved away', attempt: 1 },
  actor: { sub: 'jane', shop: 'red', via: 'https://login.example.com/' },
  salt: 'b1a5e11e',
};
const FIRST = '0'.repeat(64);
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

const ACTOR = '{"shop":"red","sub":"jane","via":"https://login.example.com/"}';
const PAYLOAD = `{"attempt":1,"reason_hash":"${sha256('b1a5e11emoved away')}","state":"canceled"}`;
const text = (previous: string) => `["${previous}","red~o-1","order_canceled","order_canceled",${PAYLOAD},${ACTOR}]`;

test('a hash is that of one text, as an auditor without our code can compute it', () => {
  expect(hashOf(null, EVENT)).toBe(sha256(text(FIRST)));
  const previous = 'f'.repeat(64);
  expect(hashOf(previous, EVENT)).toBe(sha256(text(previous)));
});

test('a hash does not depend on the order in which a database returns the keys', () => {
  const payload = { reason: 'moved away', attempt: 1, state: 'canceled' } as const;
  const actor = { via: 'https://login.example.com/', sub: 'jane', shop: 'red' };
  expect(hashOf(null, { ...EVENT, payload, actor })).toBe(hashOf(null, EVENT));
});

test('a hash is that of the text as a column stores it, without lone surrogates', () => {
  const of = (reason: string) => hashOf(null, { ...EVENT, payload: { reason } });
  expect(of('a\ud800')).toBe(of('a\ufffd'));
});

test('a hash stays the same when the text and its salt are erased', () => {
  const payload = { state: 'canceled', attempt: 1, reason_hash: sha256('b1a5e11emoved away') } as const;
  expect(hashOf(null, { ...EVENT, payload, salt: null })).toBe(hashOf(null, EVENT));
});

test('an erased event has neither its text nor its salt, and its hash still fits', () => {
  const hash = hashOf(null, EVENT);
  const erased = erasedEvent({ ...EVENT, hash }, true);
  expect(erased).toEqual({
    payload: { state: 'canceled', attempt: 1, reason_hash: sha256('b1a5e11emoved away') },
    salt: null,
  });
  expect(hashOf(null, { ...EVENT, ...erased })).toBe(hash);
  expect(erasedEvent({ ...EVENT, ...erased, hash }, true)).toBeUndefined();
  expect(erasedEvent({ ...EVENT, hash }, false)).toBeUndefined();
});

test('an event without a hash loses its address, and its text only where that is to be erased', () => {
  const old = (type: HashedEvent['type'], payload: HashedEvent['payload']) => ({
    type,
    payload,
    salt: null,
    hash: null,
  });
  const moved = old('address_updated', { id: '1', address: { line1: '1 Elm' } });
  for (const withText of [true, false]) expect(erasedEvent(moved, withText)?.payload).toEqual({ id: '1' });
  const canceled = old('order_canceled', { state: 'canceled', reason: 'moved away' });
  expect(erasedEvent(canceled, true)?.payload).toEqual({ state: 'canceled' });
  expect(erasedEvent(canceled, false)).toBeUndefined();
  expect(erasedEvent(old('order_failed', { reason: 'DEADLINE' }), true)).toBeUndefined();
});

test('only events with a text that may be erased have a salt, each its own', () => {
  const salts = [1, 2].map(() => saltFor('order_canceled', { reason: 'x' }));
  expect(new Set(salts).size).toBe(2);
  for (const salt of salts) expect(salt).toMatch(/^[0-9a-f]{32}$/);
  expect(saltFor('dispatch_failed', { attempt: 1, reason: 'x' })).not.toBeNull();
  expect(saltFor('order_failed', { state: 'failed', reason: 'DEADLINE', detail: 'x' })).not.toBeNull();
  expect(saltFor('order_failed', { state: 'failed', reason: 'DEADLINE' })).toBeNull();
  expect(saltFor('order_received', { run_id: 'r' })).toBeNull();
});
