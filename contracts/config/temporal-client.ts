/** Clients of Temporal over gRPC, for processes on Node. */
import { Client, type ConnectionLike } from '@temporalio/client';

/** Options for `Connection` and `NativeConnection`. An API key turns TLS on. */
export function connectionOptions(address: string, apiKey?: string) {
  return { address, ...(apiKey && { apiKey, tls: true as const }) };
}

/** A client on a connection, which the caller closes. */
export function createTemporalClient(connection: ConnectionLike, namespace = 'default'): Client {
  return new Client({ connection, namespace });
}
