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

/** Reads a request's body. It is refused when it is too large, not UTF-8, or cut off by its client. */
export async function receiveBody({ headers, body }: Request): Promise<Body> {
  if (!body) return { text: '' };
  const reader = body.getReader();
  const chunks: Uint8Array[] = [];
  let size = Number(headers.get('content-length') ?? 0) > MAX_BODY_BYTES ? Number.POSITIVE_INFINITY : 0;
  while (size <= MAX_BODY_BYTES) {
    const read = await reader.read().catch(() => undefined);
    if (!read) return { refusal: new OrderError('INVALID_JSON', 'the body was cut off') };
    if (read.done) return decoded(chunks, size, headers.get('content-type') ?? '');
    size += read.value.length;
    chunks.push(read.value);
  }
  const rest = discard(reader).catch(() => undefined);
  return { refusal: new OrderError('PAYLOAD_TOO_LARGE', 'the body is larger than 64 kB'), rest };
}

function decoded(chunks: Uint8Array[], size: number, contentType: string): Body {
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  try {
    // JSON is UTF-8 (RFC 8259); bytes of another encoding may pass as UTF-8 and mean another text.
    const [, charset = 'utf-8'] = /;\s*charset\s*=\s*"?([^\s";]+)/i.exec(contentType) ?? [];
    if (size === 0 || /^(utf-?8|us-ascii)$/i.test(charset))
      return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
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
export async function answerRefused(answer: Response, rest: Promise<void> = Promise.resolve()): Promise<Response> {
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
