/** The access log: what it says of each request, and the request's id. Of a request's headers, query and body it holds nothing else. */
import type { Actor } from '@trellis/contracts/actor';

/** One request to the API. Its server makes one for each, and hands it to the app. */
export interface Call {
  /** Sent back as `x-request-id`; the line of a failed request holds it too. */
  request_id: string;
  /** Who sent the request, once the app has authenticated it. */
  caller?: Actor;
  /** The orders whose payloads the codec endpoint has decrypted, by their recorded ids. */
  decoded?: string[];
}

/** An entry of the access log. */
export interface Access extends Call {
  method: string;
  path: string;
  /** BROKEN_OFF when the connection ended before the answer did. */
  status: number;
  /** Milliseconds from the arrival of the request's head to the end of the answer. */
  ms: number;
}

export const REQUEST_ID = 'x-request-id';
/** As in other servers' logs: no answer has this status. */
export const BROKEN_OFF = 499;

const OWN_ID = /^[\w.-]{1,64}$/;
const PATH = /^(?:https?:\/\/[^/?#]*)?([^?#]{0,300})/i;
/** What load balancers and orchestrators ask every few seconds. */
const PROBES = ['/health', '/livez', '/readyz'];

/** `header`: the request's `x-request-id`, whose value becomes the id if it is 1 to 64 of `A-Za-z0-9._-`; else the id is a new UUID. */
export const newCall = (header: unknown): Call => ({
  request_id: typeof header === 'string' && OWN_ID.test(header) ? header : crypto.randomUUID(),
});

/** The entry of a request that has ended; undefined for a health probe. `url`: its target, a path or a whole URL. */
export function accessOf(
  { request_id, ...known }: Call,
  { method = '', url = '' }: { method?: string | undefined; url?: string | undefined },
  status: number,
  ms: number,
): Access | undefined {
  const path = PATH.exec(url)?.[1] ?? '';
  if (PROBES.includes(path)) return undefined;
  return { request_id, method, path, status, ms: Math.round(ms), ...known };
}
