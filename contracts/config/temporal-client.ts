/** How a process on Node reaches Temporal over gRPC. */
import { Client, type ConnectionLike } from '@temporalio/client';

/** Options for `Connection` and `NativeConnection` alike: an API key is sent over TLS only. */
export function connectionOptions(address: string, apiKey?: string) {
  return { address, ...(apiKey && { apiKey, tls: true as const }) };
}

/** A client on a connection, which stays the caller's to close. */
export function createTemporalClient(connection: ConnectionLike, namespace = 'default'): Client {
  return new Client({ connection, namespace });
}
