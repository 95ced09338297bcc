/** `npm run api`: the API as a Node server. */
import { serve } from '@hono/node-server';
import { serveStatic } from '@hono/node-server/serve-static';
import { Connection } from '@temporalio/client';
import { TemporalEndpoint, Variables } from '@trellis/contracts/config';
import { createAttemptStore } from '@trellis/drizzle/attempts';
import { createCapacityStore } from '@trellis/drizzle/capacity';
import { openDatabase } from '@trellis/drizzle/client';
import { fromEnvironment } from '@trellis/drizzle/environment';
import { createOrderViews } from '@trellis/drizzle/order-views';
import pino from 'pino';
import * as v from 'valibot';
import { createApp } from './app.ts';
import { DOCS } from './docs.ts';
import { createGrpcTemporal } from './temporal-grpc.ts';
import { createHttpTemporal } from './temporal-http.ts';

const { DATABASE_URL, TEMPORAL_API_KEY, TEMPORAL_NAMESPACE, HOST, PORT, POLICY, CORS_ORIGINS, LOG_LEVEL } = Variables;
const config = fromEnvironment(
  v.object({
    DATABASE_URL,
    TEMPORAL_ADDRESS: TemporalEndpoint,
    TEMPORAL_API_KEY,
    TEMPORAL_NAMESPACE,
    HOST,
    PORT,
    POLICY,
    CORS_ORIGINS,
    LOG_LEVEL,
  }),
);

const log = pino({ level: config.LOG_LEVEL, base: null, timestamp: pino.stdTimeFunctions.isoTime });
const db = openDatabase(config.DATABASE_URL);
const { TEMPORAL_ADDRESS: address, TEMPORAL_API_KEY: apiKey, TEMPORAL_NAMESPACE: namespace } = config;
const connection = /^https?:\/\//.test(address)
  ? undefined
  : Connection.lazy({ address, ...(apiKey && { apiKey, tls: true }) });
const app = createApp({
  temporal: connection
    ? createGrpcTemporal(connection, namespace)
    : createHttpTemporal({ url: address, namespace, apiKey }),
  views: createOrderViews(db),
  attempts: createAttemptStore(db),
  capacity: createCapacityStore(db),
  policy: config.POLICY,
  corsOrigins: config.CORS_ORIGINS,
  onError: (err) => log.error({ err }, 'request failed'),
});

app.get('/docs', (c) => c.redirect('/docs/', 307));
for (const [path, file] of Object.entries(DOCS))
  app.get(`/${path.replace(/index\.html$/, '')}`, serveStatic({ path: file }));

const server = serve({ fetch: app.fetch, hostname: config.HOST, port: config.PORT }, ({ address, port }) => {
  log.info({ address, port }, 'api listening');
  process.send?.('ready');
});

const stop = () => {
  server.close(async () => {
    await Promise.all([connection?.close(), db.close()]);
    process.exit(0);
  });
};
process.once('SIGTERM', stop).once('SIGINT', stop);
