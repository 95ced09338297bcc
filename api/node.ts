/** `npm run api`: the API as a Node server. */
import { serve } from '@hono/node-server';
import { serveStatic } from '@hono/node-server/serve-static';
import { Connection } from '@temporalio/client';
import { createLogger } from '@trellis/contracts/config/logger';
import { createTemporalClient, fromEnvironmentAndProfile } from '@trellis/contracts/config/temporal-client';
import { PROGRAMS } from '@trellis/contracts/config/variables';
import { openDatabase } from '@trellis/drizzle/client';
import { openApiStores } from '@trellis/drizzle/stores';
import { createApp } from './http/app.ts';
import { DOCS } from './http/docs.ts';
import { createGrpcTemporal } from './temporal/grpc.ts';
import { createHttpTemporal } from './temporal/http.ts';
import { fetchWith } from './temporal/tls-fetch.ts';

const config = fromEnvironmentAndProfile(PROGRAMS.api);
const log = createLogger(config.LOG_LEVEL);
const db = openDatabase(config.DATABASE_URL);
const { TEMPORAL_ADDRESS: address, TEMPORAL_NAMESPACE: namespace, temporal } = config;
const connection = /^https?:\/\//.test(address) ? undefined : Connection.lazy({ address, ...temporal });
const app = createApp({
  temporal: connection
    ? createGrpcTemporal(createTemporalClient(connection, namespace))
    : createHttpTemporal({ url: address, namespace, apiKey: temporal.apiKey, fetch: fetchWith(temporal.tls) }),
  ...openApiStores(db),
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

server.once('error', ({ code, message }: NodeJS.ErrnoException) => {
  const line = code === 'EADDRINUSE' ? `PORT ${config.PORT} on ${config.HOST} is already in use` : message;
  process.stderr.write(`${line}\n`);
  process.exit(1);
});

const stop = () => {
  server.close(async () => {
    await Promise.all([connection?.close(), db.close()]);
    process.exit(0);
  });
};
process.once('SIGTERM', stop).once('SIGINT', stop);
