import canonicalize from 'canonicalize';
import { type Actor, VIA } from './actor.ts';
import { StartInput } from './order.ts';

/** Hashes a text; returns 64 hexadecimal digits. */
export type Hash = (text: string) => Promise<string>;

/**
 * The hash by which two requests are recognised as the same order: by default SHA-256, of the parsed body as canonical JSON
 * (RFC 8785). It covers exactly the fields of `schema`, and so not `policy`, which the server adds.
 */
export function requestHash(
  order: StartInput,
  schema: { entries: Record<string, unknown> } = StartInput,
  hash: Hash = sha256,
): Promise<string> {
  return hash(canonicalForm(order, schema));
}

/**
 * Whether `recorded`, from SQL or a memo, is the hash of this order, by SHA-256 or by one of `hashes`. Versions up to 0.2.0 put keys that
 * are integers first, in numeric order, as JavaScript objects do; their hashes still match.
 */
export async function isRequestHash(
  recorded: string | null,
  order: StartInput,
  hashes: readonly Hash[] = [],
): Promise<boolean> {
  const canonical = canonicalForm(order, StartInput);
  const possible = [sha256, ...hashes].map((hash) => hash(canonical));
  return [...(await Promise.all(possible)), await sha256(JSON.stringify(JSON.parse(canonical)))].some(
    (hash) => hash === recorded,
  );
}

/** The hash by which two requests under one Idempotency-Key are recognised as the same command: SHA-256, hex, of its arguments. */
export const argumentsHash = (args: unknown[]): Promise<string> => sha256(canonicalize(args) ?? '');

/**
 * The id of the command that a caller sends under a key of its own: no other caller can take the key. Where callers are not told apart
 * it is the key itself.
 */
export const commandIdOf = ({ sub, via }: Actor, key: string): string | Promise<string> =>
  via === VIA.open ? key : sha256(canonicalize([via, sub, key]) ?? '');

function canonicalForm(order: object, { entries }: { entries: Record<string, unknown> }): string {
  return canonicalize(Object.fromEntries(Object.entries(order).filter(([key]) => key in entries))) ?? '';
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
