/**
 * The codec endpoint: Temporal's UI and CLI send it the payloads that they have read, and show what it decrypts (Temporal's remote codec
 * protocol). For staff, and on Node alone. It does not encrypt: what staff does to an order goes through the API, which records who did it.
 */
import { RECORDED_ID_PATTERN } from '@trellis/contracts/id';
import { problemsOf } from '@trellis/contracts/order';
import type { Encryption, Payload } from '@trellis/contracts/payload-codec';
import { ENCRYPTED, ENCRYPTION_KEY_ID } from '@trellis/contracts/temporal';
import { cors } from 'hono/cors';
import type { Hono } from 'hono/tiny';
import * as v from 'valibot';
import { authorizeStaff } from '../callers/caller.ts';
import { invalid } from '../orders/errors.ts';
import type { Call } from './access-log.ts';
import type { Identify } from './app.ts';
import { answerRefused, receiveBody } from './body.ts';
import { createSiteCheck } from './other-sites.ts';
import { jsonResponse, problemResponse } from './responses.ts';
import { bodyOf } from './rest-from-router.ts';

/** The protocol appends `/decode` to the URL that the UI or the CLI is given. */
const PATH = '/codec/decode';
/** For the payloads of one event; an order's own take some kilobytes. */
const MAX_BODY_BYTES = 1024 * 1024;
/** What Temporal's UI sends besides what every page may. */
const HEADERS = ['authorization', 'content-type', 'x-namespace'];

/** A payload as protobuf's JSON has it: bytes are base64. */
const JsonPayload = v.object({
  metadata: v.nullish(v.record(v.string(), v.string())),
  data: v.nullish(v.string()),
});
type JsonPayload = v.InferOutput<typeof JsonPayload>;
const Payloads = v.object({ payloads: v.array(JsonPayload) });

/**
 * Returns the function that adds the endpoint to the API. `uiOrigin`: that of Temporal's UI, the only one whose pages may call it; no page may
 * when absent. `hosts`: as for the other routes. Payloads that are not encrypted, whose key is not there, or that the caller may not read
 * are answered as they are.
 */
export const codecRoute =
  ({
    encryption,
    uiOrigin,
    hosts,
  }: {
    encryption: Encryption;
    uiOrigin: string | undefined;
    hosts: readonly string[] | undefined;
  }) =>
  (app: Hono, identify: Identify): void => {
    const origin = uiOrigin === undefined ? [] : [uiOrigin];
    const refusalOf = createSiteCheck(origin, hosts, 'TEMPORAL_UI_ORIGIN');
    app.use(PATH, cors({ origin, allowMethods: ['POST'], allowHeaders: HEADERS }));
    app.post(PATH, async (c) => {
      const refusal = refusalOf(c.req.raw);
      if (refusal) throw refusal;
      // Before the body is read, which may be larger than others.
      const mayRead = authorizeStaff(await identify(c));
      const body = await receiveBody(c.req.raw, MAX_BODY_BYTES);
      if ('refusal' in body) return answerRefused(problemResponse(body.refusal), body.rest);
      const decoded = new Set<string>();
      const payloads: unknown[] = [];
      // One after the other, so that an order's key is read once, and one request takes one connection to the database.
      for (const { given, payload } of payloadsIn(body.text)) {
        const orderId = orderOf(payload);
        const [plain] = orderId !== undefined && mayRead(orderId) ? await encryption.decode([payload]) : [];
        if (orderId === undefined || !plain || plain === payload) payloads.push(given);
        else {
          decoded.add(orderId);
          payloads.push(jsonOf(plain));
        }
      }
      const call = c.env as Call | undefined;
      if (call) call.decoded = [...decoded];
      return jsonResponse({ payloads });
    });
  };

/** The payloads of a request's body; `given`: as it was sent. Throws INVALID_JSON or INVALID. */
function payloadsIn(text: string): { given: unknown; payload: Payload }[] {
  const body = bodyOf(text);
  const parsed = v.safeParse(Payloads, body);
  if (!parsed.success) throw invalid(problemsOf(parsed.issues));
  const given = body.payloads as unknown[];
  return parsed.output.payloads.map((payload, n) => ({ given: given[n], payload: payloadOf(payload) }));
}

/** The order whose key a payload is encrypted with; undefined when it is not encrypted by this product. */
function orderOf({ metadata }: Payload): string | undefined {
  const text = (name: string) => Buffer.from(metadata?.[name] ?? []).toString();
  const orderId = text(ENCRYPTION_KEY_ID);
  return text('encoding') === ENCRYPTED && RECORDED_ID_PATTERN.test(orderId) ? orderId : undefined;
}

const payloadOf = ({ metadata, data }: JsonPayload): Payload => ({
  metadata: mapValues(metadata ?? {}, (text) => Buffer.from(text, 'base64')),
  data: Buffer.from(data ?? '', 'base64'),
});

const jsonOf = ({ metadata, data }: Payload): JsonPayload => ({
  metadata: mapValues(metadata ?? {}, base64),
  data: base64(data ?? new Uint8Array()),
});

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

const mapValues = <A, B>(record: Record<string, A>, change: (value: A) => B): Record<string, B> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]));
