/** The typed client: what users import, in Node, a browser or on the edge. */

import type { ErrorCode, Problem } from '@trellis/contracts/error';
import type { State } from '@trellis/contracts/lifecycle';
import { createTRPCClient, httpLink, type TRPCClient, TRPCClientError } from '@trpc/client';
import type { AppRouter } from '../orders/router.ts';

export type { ErrorCode } from '@trellis/contracts/error';
export type { AppRouter } from '../orders/router.ts';

export type OrdersClient = TRPCClient<AppRouter>['orders'];

/** The key under which a command's `context` carries its id: `approve.mutate(input, { context: { idempotencyKey } })`. */
export interface CommandContext {
  idempotencyKey?: string;
}

/**
 * A client of the API at `url`, such as `http://localhost:8000`. Its calls reject with an error that `orderErrorOf` reads.
 * `headers` go along with every call.
 */
export function createOrdersClient(
  url: string,
  { headers = {} }: { headers?: Record<string, string> } = {},
): OrdersClient {
  const client = createTRPCClient<AppRouter>({
    links: [
      httpLink({
        url: `${url.replace(/\/+$/, '')}/trpc`,
        headers: ({ op }) => {
          const { idempotencyKey } = op.context as CommandContext;
          return idempotencyKey === undefined ? headers : { ...headers, 'idempotency-key': idempotencyKey };
        },
      }),
    ],
  });
  return client.orders;
}

export interface ClientError {
  code: ErrorCode;
  message: string;
  /** The failing fields of INVALID. */
  errors?: Problem[];
  /** The state that forbids the command, of TOO_LATE. */
  state?: State;
  /** Seconds after which trying again can help, of BUSY. */
  retry_after?: number;
}

/** What the API said was wrong; undefined when the error isn't the API's, as when it can't be reached. */
export function orderErrorOf(error: unknown): ClientError | undefined {
  if (!(error instanceof TRPCClientError) || !error.data) return undefined;
  const { code, errors, state, retry_after } = (error as TRPCClientError<AppRouter>).data ?? {};
  if (code === undefined) return undefined;
  return {
    code,
    message: error.message,
    ...(errors ? { errors } : {}),
    ...(state ? { state } : {}),
    ...(retry_after ? { retry_after } : {}),
  };
}
