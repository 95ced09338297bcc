import type { StartInput } from './order.ts';

/**
 * The hash that tells whether two requests start the same order: SHA-256, hex, of the parsed body with its keys
 * sorted. The policy is the server's and doesn't count.
 */
export async function requestHash({ order_id, payment_id, address, items }: StartInput): Promise<string> {
  const text = JSON.stringify(sorted({ order_id, payment_id, address, items }));
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, child]) => [key, sorted(child)]),
  );
}
