/**
 * The chain of an order's events: each carries a hash over itself and the hash before it, and the order's row that of the last one.
 * So a recorded event can't be changed, removed, moved or inserted without a hash that no longer fits.
 */
import { createHash, randomBytes } from 'node:crypto';
import { ERASABLE, type EventType } from '@trellis/contracts/event';
import type { events } from './schema.ts';

type EventRow = typeof events.$inferSelect;
export type HashedEvent = Pick<EventRow, 'order_id' | 'type' | 'dedupe_key' | 'payload' | 'actor' | 'salt'>;

/** The hash before an order's first event. */
const NONE = '0'.repeat(64);

/**
 * A salt for the text of this event that may be erased (ERASABLE); null if it has none. The chain hashes not the text but
 * `sha256(salt + text)`, so that an erasure may put that into the payload as `<key>_hash` and drop the text and the salt: without the salt
 * the text can't be guessed.
 */
export function saltFor(type: EventType, payload: EventRow['payload']): string | null {
  const key = ERASABLE[type];
  return key !== undefined && payload?.[key] !== undefined ? randomBytes(16).toString('hex') : null;
}

/** The hash of an event behind the one with the hash `previous`, or as the first one. In hexadecimal. Its id and its time are not in it. */
export function hashOf(previous: string | null, event: HashedEvent): string {
  const { order_id, type, dedupe_key, actor } = event;
  return sha256(canonical([previous ?? NONE, order_id, type, dedupe_key, hashedPayload(event), actor]));
}

/**
 * What an event's row has once it is erased. Its hash still fits. Undefined when it has nothing to erase: its text, if `withText`, and the
 * address that events of versions up to 0.5 may have.
 */
export function erasedEvent(
  { type, payload, salt, hash }: Pick<EventRow, 'type' | 'payload' | 'salt' | 'hash'>,
  withText: boolean,
): Pick<EventRow, 'payload' | 'salt'> | undefined {
  if (payload === null) return undefined;
  const key = ERASABLE[type] ?? '';
  if (hash !== null)
    return withText && salt !== null ? { payload: hashedPayload({ type, payload, salt }), salt: null } : undefined;
  const { address, ...rest } = payload;
  const { [key]: text, ...others } = rest;
  if (withText && text !== undefined) return { payload: others, salt: null };
  return address === undefined ? undefined : { payload: rest, salt: null };
}

function hashedPayload({ type, payload, salt }: Pick<HashedEvent, 'type' | 'payload' | 'salt'>): EventRow['payload'] {
  const key = ERASABLE[type] ?? '';
  if (salt === null || payload === null) return payload;
  const { [key]: text, ...others } = payload;
  return { ...others, [`${key}_hash`]: sha256(`${salt}${wellFormed(text)}`) };
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** As a column stores it. */
const wellFormed = (part: unknown) => (typeof part === 'string' ? part.toWellFormed() : part);

/** JSON with sorted keys: MySQL stores the keys of an object in an order of its own. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, part) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([one], [other]) => (one < other ? -1 : 1)))
      : wellFormed(part),
  );
