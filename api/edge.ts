/** The API on an edge runtime: no Node, no TCP; Temporal and the database are reached over HTTP. */
import { PROGRAMS, readConfig } from '@trellis/contracts/config/variables';
import { OrderError } from '@trellis/contracts/error';
import { openPlanetScale } from '@trellis/drizzle/planetscale';
import { openApiStores } from '@trellis/drizzle/stores';
import { createApp } from './http/app.ts';
import { problemResponse } from './http/responses.ts';
import { createHttpTemporal } from './temporal/http.ts';

type Environment = Record<string, string | undefined>;

let app: ReturnType<typeof createApp> | undefined;

/** Called at the first request, because the environment is not available before; the app is kept for the isolate's lifetime. */
function appOf(environment: Environment): ReturnType<typeof createApp> {
  const config = readConfig(PROGRAMS.edge, environment);
  if (config.AUTH === 'off') console.warn('AUTH=off: whoever reaches this API may do everything');
  const db = openPlanetScale(config.DATABASE_URL);
  return createApp({
    temporal: createHttpTemporal({
      url: config.TEMPORAL_ADDRESS,
      namespace: config.TEMPORAL_NAMESPACE,
      apiKey: config.TEMPORAL_API_KEY,
    }),
    ...openApiStores(db),
    policy: config.POLICY,
    auth: config,
    corsOrigins: config.CORS_ORIGINS,
    onFailure: (failure) => console.error(JSON.stringify(failure)),
  });
}

export default {
  async fetch(
    request: Request,
    environment: Environment,
    context: { waitUntil(work: Promise<unknown>): void },
  ): Promise<Response> {
    try {
      app ??= appOf(environment);
    } catch (error) {
      console.error(error);
      return problemResponse(new OrderError('INTERNAL', 'the API is not configured'));
    }
    const answer = Promise.resolve(app.fetch(request));
    // A request runs to its end even when its caller has disconnected.
    context.waitUntil(answer);
    return answer;
  },
};
