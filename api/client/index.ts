/** The typed client, for Node, browsers and edge runtimes. */

import type { AppRouter } from '@trellis/api/orders/router';
import { createTRPCClient, httpLink, TRPCClientError } from '@trpc/client';
import type { ClientError, ClientOptions, CommandContext, OrdersClient } from './types.ts';

export type * from './types.ts';

/**
 * A client of the API at `url`, such as `http://localhost:8000`. Its calls reject with an error that `orderErrorOf` reads.
 * `token`, or what a function returns, is sent with every call as a bearer token, and `headers` too.
 */
export function createOrdersClient(url: string, { token, headers: given = {} }: ClientOptions = {}): OrdersClient {
  const client = createTRPCClient<AppRouter>({
    links: [
      httpLink({
        url: `${url.replace(/\/+$/, '')}/trpc`,
        headers: async ({ op }) => {
          const { idempotencyKey } = op.context as CommandContext;
          const bearer = typeof token === 'function' ? await token() : token;
          const headers = bearer === undefined ? given : { ...given, authorization: `Bearer ${bearer}` };
          return idempotencyKey === undefined ? headers : { ...headers, 'idempotency-key': idempotencyKey };
        },
      }),
    ],
  });
  return client.orders;
}

/** The error that the API returned; undefined for any other error, such as a failed connection. */
export function orderErrorOf(error: unknown): ClientError | undefined {
  if (!(error instanceof TRPCClientError) || !error.data) return undefined;
  const { code, errors, state, retry_after } = error.data;
  if (code === undefined) return undefined;
  return {
    code,
    message: error.message,
    ...(errors ? { errors } : {}),
    ...(state ? { state } : {}),
    ...(retry_after ? { retry_after } : {}),
  };
}
