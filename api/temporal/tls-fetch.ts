import type { TemporalOptions } from '@trellis/contracts/config/temporal-client';

/** Resolves with a `fetch` for Node that connects with these certificates; undefined when there are none, and the runtime's own will do. */
export async function fetchWith(
  tls: TemporalOptions['tls'],
): Promise<((request: Request) => Promise<Response>) | undefined> {
  if (typeof tls !== 'object' || tls === null) return undefined;
  const { Agent, fetch } = await import('undici');
  const { serverRootCACertificate: ca, clientCertPair, serverNameOverride: servername } = tls;
  const dispatcher = new Agent({
    connect: {
      ...(ca && { ca: Buffer.from(ca) }),
      ...(clientCertPair && { cert: Buffer.from(clientCertPair.crt), key: Buffer.from(clientCertPair.key) }),
      ...(servername && { servername }),
    },
  });
  // Node's built-in fetch takes only a dispatcher of the undici version that is built in.
  return async (request) => {
    const { url, method, headers, signal } = request;
    const body = request.body === null ? {} : { body: await request.text() };
    const response = await fetch(url, { method, headers: Object.fromEntries(headers), signal, dispatcher, ...body });
    return response as unknown as Response;
  };
}
