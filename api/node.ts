/** `npm run api`: the API as a Node server. */
import { setTimeout as sleep } from 'node:timers/promises';
import { serveStatic } from '@hono/node-server/serve-static';
import { Connection } from '@temporalio/client';
import { createApprovalSigner } from '@trellis/contracts/approval-proof';
import { readCommandLine } from '@trellis/contracts/config/command-line';
import { createBufferedLogger, createLogger } from '@trellis/contracts/config/logger';
import { giveBackStartMemory } from '@trellis/contracts/config/start-memory';
import { createTemporalClient, fromEnvironmentAndProfile } from '@trellis/contracts/config/temporal-client';
import { LOOPBACK, PROGRAMS } from '@trellis/contracts/config/variables';
import { openApiStores } from '@trellis/drizzle/api-stores';
import { checkDatabase, openDatabase } from '@trellis/drizzle/client';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { CALLS, PERIOD_S } from './callers/rate.ts';
import { encryptionOf } from './encryption.ts';
import { createApp } from './http/app.ts';
import { codecRoute } from './http/codec.ts';
import { DOCS, DOCS_HEADERS } from './http/docs.ts';
import { reasonOf } from './http/failure.ts';
import { openApiDocument } from './http/openapi-from-router.ts';
import { jsonResponse, redirect } from './http/responses.ts';
import { createApiServer } from './http/server.ts';
import manifest from './package.json' with { type: 'json' };
import { createGrpcTemporal } from './temporal/grpc.ts';
import { createHttpTemporal } from './temporal/http.ts';
import { fetchWith } from './temporal/tls-fetch.ts';

/**
 * A connection to Temporal that the network dropped silently is noticed after 20 s instead of gRPC's 45 s. Temporal ends connections whose
 * pings are less than 10 s apart.
 */
const KEEPALIVE = { 'grpc.keepalive_time_ms': 15_000, 'grpc.keepalive_timeout_ms': 5_000 };
/** How long the servers may take to answer before the log warns of them. */
const START_PING_MS = 2_000;
/** For closing the connections to the database, once those of the clients are closed. */
const CLOSE_MS = 1_000;

readCommandLine('npm run api', 'Serve the API on Node.');
const config = fromEnvironmentAndProfile(PROGRAMS.api);
const log = createLogger(config.LOG_LEVEL);
const accessLog = createBufferedLogger(config.LOG_LEVEL);
const db = openDatabase(config.DATABASE_URL);
const stores = openApiStores(db);
const encryption = encryptionOf(config, stores.orderKeys);
const { TEMPORAL_ADDRESS: address, TEMPORAL_NAMESPACE: namespace } = config;
const { apiKey, tls } = config.temporal;
const connection = /^https?:\/\//.test(address)
  ? undefined
  : Connection.lazy({ address, ...config.temporal, channelArgs: KEEPALIVE });
const temporal = connection
  ? createGrpcTemporal(createTemporalClient(connection, namespace, encryption))
  : createHttpTemporal({
      url: address,
      namespace,
      apiKey,
      headers: config.TEMPORAL_HTTP_HEADERS,
      fetch: await fetchWith(tls),
      encryption,
    });
const limiter = new RateLimiterMemory({ points: CALLS, duration: PERIOD_S });
const hosts = LOOPBACK.includes(config.HOST) ? LOOPBACK : undefined;
const app = createApp({
  temporal,
  ...stores,
  encryption,
  policy: config.POLICY,
  auth: config,
  signApproval: config.APPROVAL_KEY ? createApprovalSigner(config.APPROVAL_KEY) : undefined,
  countCall: (caller) =>
    limiter.consume(caller).then(
      () => true,
      () => false,
    ),
  corsOrigins: config.CORS_ORIGINS,
  hosts,
  addCodec: encryption && codecRoute({ encryption, uiOrigin: config.TEMPORAL_UI_ORIGIN, hosts }),
  isStopping: () => isStopping(),
  onFailure: (failure) => log.error(failure, 'request failed'),
});

// On the edge a static file, as is all of /docs: the generator of the document would be a tenth of that bundle.
app.get('/openapi.json', () => jsonResponse(openApiDocument()));
// The router ignores a slash at the end; the page's relative links do not.
app.get('/docs', (c, next) => (c.req.path === '/docs' ? redirect('/docs/') : next()));
app.use('/docs/*', async (c, next) => {
  await next();
  for (const [name, value] of Object.entries(DOCS_HEADERS)) c.header(name, value);
});
for (const [path, file] of Object.entries(DOCS))
  app.get(`/${path.replace(/index\.html$/, '')}`, serveStatic({ path: file }));

const { server, isStopping, stop } = createApiServer({
  fetch: app.fetch,
  onAccess: (access) => accessLog.info(access, 'request'),
  onDropped: (dropped, open) => log.warn({ dropped, open }, 'too many connections: new ones are closed at once'),
});
server.once('error', ({ code, message }: NodeJS.ErrnoException) => {
  const line = code === 'EADDRINUSE' ? `PORT ${config.PORT} on ${config.HOST} is already in use` : message;
  process.stderr.write(`${line}\n`);
  process.exit(1);
});
giveBackStartMemory();
server.listen(config.PORT, config.HOST, () => {
  const { HOST: host, PORT: port, POLICY: policy, AUTH: auth } = config;
  if (auth === 'off') log.warn('AUTH=off: whoever reaches this API may do everything; it serves this machine only');
  log.info({ version: manifest.version, host, port, policy, auth, temporal: address, namespace }, 'api listening');
  process.send?.('ready');
  void warnOfMissingServers();
});

/** The API starts without its servers and answers 503 until they are there; the log names the variable to look at. */
async function warnOfMissingServers(): Promise<void> {
  const warn = (line: string) => log.warn(`${line}; calls fail until this is mended`);
  await Promise.all([
    checkDatabase(db, 'DATABASE_URL', config.DATABASE_URL).then((line) => line && warn(line)),
    temporal
      .ping(START_PING_MS)
      .catch((error) => warn(`TEMPORAL_ADDRESS (${address}), namespace ${namespace}: ${reasonOf(error)}`)),
  ]);
}

/**
 * SIGTERM, from an orchestrator, first gives load balancers time to stop routing to it; SIGINT, from a terminal, does not. A second
 * signal ends the process at once. The connection to Temporal ends with the process: if it were closed before, a call that the client
 * is about to retry would throw.
 */
function onSignal(signal: NodeJS.Signals): void {
  if (isStopping()) process.exit(1);
  void stop({ notice: signal === 'SIGTERM' })
    .then(() => Promise.race([db.close(), sleep(CLOSE_MS)]))
    .finally(() => process.exit(0));
}
process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
