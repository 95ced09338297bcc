/** The API's HTTP server on Node: its limits, its access log, and how it stops without failing a request. */
import { once } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createAdaptorServer } from '@hono/node-server';
import { type Access, accessOf, BROKEN_OFF, type Call, newCall, REQUEST_ID } from './access-log.ts';

const LIMITS = {
  /** To send a request's head, and the whole request; after that it is answered 408 and its connection is closed. */
  headersTimeout: 10_000,
  requestTimeout: 15_000,
  connectionsCheckingInterval: 2_000,
  /** Longer than the 60 s of common load balancers: the side that closes an idle connection first must not be the server. */
  keepAliveTimeout: 65_000,
};
const MAX_CONNECTIONS = 10_000;
/** Descriptors that connections leave for the database, Temporal and files. */
const RESERVED_DESCRIPTORS = 200;
const LOG_DROPS_EVERY_MS = 10_000;

/** After SIGTERM the server still accepts and answers for this long, with `Connection: close`, so that load balancers stop routing to it. */
const NOTICE_MS = 2_000;
/** A connection that arrives while the server stops listening is reset. So it stops listening once none has arrived for QUIET_MS, after WAIT_FOR_QUIET_MS at the latest. */
const QUIET_MS = 10;
const WAIT_FOR_QUIET_MS = 300;
/** How long a connection on which no request has arrived stays open once the server accepts no more. */
const UNUSED_MS = 1_000;
/** Counted from the signal: after this every connection is closed. Docker and compose kill after 10 s. */
const STOP_MS = 7_500;

/** Answers a request; `call` is what the access log says of it. */
type Handler = (request: Request, call: Call) => Response | Promise<Response>;

export interface ApiServer {
  server: Server;
  /** Whether the server is about to stop. */
  isStopping(): boolean;
  /** Ends every connection within STOP_MS. `notice`: accepts and answers requests for NOTICE_MS first. */
  stop(options: { notice: boolean }): Promise<void>;
}

/**
 * `onAccess` is called when a request has ended, unless it is a health probe. `onDropped` is called with the number of connections
 * refused because too many were open, at most once in LOG_DROPS_EVERY_MS.
 */
export function createApiServer(options: {
  fetch: Handler;
  onAccess: (access: Access) => void;
  onDropped: (dropped: number, open: number) => void;
}): ApiServer {
  /** While it is pending, requests wait for it: a client that waits for an answer opens no new connection. */
  let holding: Promise<void> | undefined;
  /** The requests that are under way. */
  const calls = new Map<ServerResponse, Call>();
  const fetch = (request: Request, { outgoing }: { outgoing: unknown }) => {
    // The listener below, which is called first, has put it there.
    const call = calls.get(outgoing as ServerResponse) as Call;
    return holding ? holding.then(() => options.fetch(request, call)) : options.fetch(request, call);
  };
  const server = createAdaptorServer({ fetch, serverOptions: LIMITS }) as Server;
  server.maxConnections = Math.min(MAX_CONNECTIONS, openFilesLimit() - RESERVED_DESCRIPTORS);
  reportDrops(server, options.onDropped);

  const sockets = new Set<Socket>();
  let stopping = false;
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
    const arrived = performance.now();
    const call = newCall(request.headers[REQUEST_ID]);
    calls.set(response, call);
    // Set here and not by the app: its answers keep the form that the adapter sends without making `Headers`.
    response.setHeader(REQUEST_ID, call.request_id);
    if (stopping) closeAfter(response);
    response.once('close', () => {
      calls.delete(response);
      const status = response.writableFinished ? response.statusCode : BROKEN_OFF;
      const access = accessOf(call, request, status, performance.now() - arrived);
      if (access) options.onAccess(access);
    });
  });

  return {
    server,
    isStopping: () => stopping,
    async stop({ notice }) {
      const end = performance.now() + STOP_MS;
      stopping = true;
      for (const response of calls.keys()) closeAfter(response);
      if (notice) await sleep(NOTICE_MS);
      const closed = once(server, 'close');
      const held = Promise.withResolvers<void>();
      holding = held.promise;
      await quiet(server);
      // Closes idle connections too, but none on which nothing, or half a head, was ever sent.
      server.close();
      held.resolve();
      await Promise.race([closed, sleep(UNUSED_MS)]);
      const used = new Set([...calls.keys()].map(({ req }) => req.socket));
      for (const socket of sockets) if (!used.has(socket)) socket.destroy();
      await Promise.race([closed, sleep(end - performance.now())]);
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Sets `Connection: close` on a response whose head has not been sent. */
function closeAfter(response: ServerResponse): void {
  if (!response.headersSent) response.setHeader('connection', 'close');
}

/** Resolves once no connection has arrived for QUIET_MS, after WAIT_FOR_QUIET_MS at most. */
async function quiet(server: Server): Promise<void> {
  const end = performance.now() + WAIT_FOR_QUIET_MS;
  let arrived = true;
  server.on('connection', () => {
    arrived = true;
  });
  while (arrived && performance.now() < end) {
    arrived = false;
    await sleep(QUIET_MS);
  }
}

function reportDrops(server: Server, onDropped: (dropped: number, open: number) => void): void {
  let dropped = 0;
  let loggedAt = Number.NEGATIVE_INFINITY;
  server.on('drop', () => {
    dropped += 1;
    if (performance.now() - loggedAt < LOG_DROPS_EVERY_MS) return;
    onDropped(dropped, server.maxConnections);
    loggedAt = performance.now();
    dropped = 0;
  });
}

/** The process's limit of open files. Above it the operating system drops connections, and Node emits no event for that. */
function openFilesLimit(): number {
  const report = process.report.getReport() as { userLimits?: { open_files?: { soft: unknown } } };
  const soft = Number(report.userLimits?.open_files?.soft);
  return Number.isNaN(soft) ? Number.POSITIVE_INFINITY : soft;
}
