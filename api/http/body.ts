/** Request bodies: their size, their encoding, and what becomes of the connection when one is refused. */
import { OrderError } from '@trellis/contracts/error';
import { after } from '../after.ts';

const MAX_BODY_BYTES = 64 * 1024;
/** How long the answer to a body that is too large waits for its end, after which the connection can be used again. */
const DISCARD_MS = 1_000;
/** How long the rest is read after the answer: a connection that is closed while its client sends is reset, and the answer may be lost. */
const LINGER_MS = 3_000;

/** A body's text, empty when there is none; or why the body is refused. `rest` resolves at the end of what its client still sends. */
export type Body = { text: string } | { refusal: OrderError; rest?: Promise<void> };

/** Reads a request's body. It is refused when it is larger than `maxBytes`, not UTF-8, or cut off by its client. */
export async function receiveBody(request: Request, maxBytes = MAX_BODY_BYTES): Promise<Body> {
  const { method, headers } = request;
  if (method === 'GET' || method === 'HEAD') return { text: '' };
  const length = headers.get('content-length');
  // A stream for the body costs more than all the rest of a request, and the server holds the client to its length.
  if (length === null || Number(length) > maxBytes) return receiveStream(request, Number(length), maxBytes);
  const bytes = await request.arrayBuffer().catch(() => undefined);
  return bytes ? decoded(bytes, headers) : cutOff();
}

async function receiveStream({ headers, body }: Request, length: number, maxBytes: number): Promise<Body> {
  if (!body) return { text: '' };
  const reader = body.getReader();
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = length;
  while (size <= maxBytes) {
    const read = await reader.read().catch(() => undefined);
    if (!read) return cutOff();
    if (read.done) return decoded(await new Blob(chunks).arrayBuffer(), headers);
    size += read.value.length;
    chunks.push(read.value);
  }
  const rest = discard(reader).catch(() => undefined);
  return { refusal: new OrderError('PAYLOAD_TOO_LARGE', `the body is larger than ${maxBytes / 1024} kB`), rest };
}

const cutOff = (): Body => ({ refusal: new OrderError('INVALID_JSON', 'the body was cut off') });

const UTF8 = new TextDecoder('utf-8', { fatal: true });

function decoded(bytes: ArrayBuffer, headers: Headers): Body {
  try {
    // JSON is UTF-8 (RFC 8259); bytes of another encoding may pass as UTF-8 and mean another text.
    const [, charset = 'utf-8'] = /;\s*charset\s*=\s*"?([^\s";]+)/i.exec(headers.get('content-type') ?? '') ?? [];
    if (bytes.byteLength === 0 || /^(utf-?8|us-ascii)$/i.test(charset)) return { text: UTF8.decode(bytes) };
  } catch {
    // It is not UTF-8.
  }
  return { refusal: new OrderError('INVALID_JSON', 'the body must be UTF-8') };
}

async function discard(reader: ReadableStreamDefaultReader<unknown>): Promise<void> {
  while (!(await reader.read()).done);
}

/**
 * The answer to a refused body. When the client is still sending after DISCARD_MS, the answer carries `Connection: close`, and the
 * connection stays open until the body has ended, at most for LINGER_MS.
 */
export async function answerRefused(answer: Response, rest: Promise<void> | undefined): Promise<Response> {
  if (!rest) return answer;
  const ended = await Promise.race([rest.then(() => true), after(DISCARD_MS)]);
  if (ended) return answer;
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue(bytes);
      await Promise.race([rest, after(LINGER_MS)]);
      controller.close();
    },
  });
  const { status, headers } = answer;
  headers.set('content-length', `${bytes.length}`);
  headers.set('connection', 'close');
  return new Response(body, { status, headers });
}
