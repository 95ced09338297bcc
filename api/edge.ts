/** The API on an edge runtime: no Node, no TCP; Temporal and the database are reached over HTTP. */
import { createApprovalSigner } from '@trellis/contracts/approval-proof';
import { EDGE, LOOPBACK, readConfig } from '@trellis/contracts/config/api-variables';
import { OrderError } from '@trellis/contracts/error';
import { openApiStores } from '@trellis/drizzle/api-stores';
import { openPlanetScale } from '@trellis/drizzle/planetscale';
import { encryptionOf } from './encryption.ts';
import { accessOf, type Call, newCall, REQUEST_ID } from './http/access-log.ts';
import { createApp } from './http/app.ts';
import { problemResponse } from './http/responses.ts';
import { createHttpTemporal } from './temporal/http.ts';

/** The platform's own counter of calls, as wrangler.toml binds it. */
interface RateLimit {
  limit(call: { key: string }): Promise<{ success: boolean }>;
}

interface Environment {
  /** Absent where the platform has none. */
  CALLS?: RateLimit;
  /** The variables and secrets. */
  [name: string]: unknown;
}

let app: ReturnType<typeof createApp> | undefined;

/** Called at the first request, because the environment is not available before; the app is kept for the isolate's lifetime. */
function appOf({ CALLS: limiter, ...variables }: Environment): ReturnType<typeof createApp> {
  const config = readConfig(EDGE, variables as Record<string, string | undefined>);
  if (config.AUTH === 'off') console.warn('AUTH=off: whoever reaches this API may do everything');
  const stores = openApiStores(openPlanetScale(config.DATABASE_URL));
  const encryption = encryptionOf(config, stores.orderKeys);
  return createApp({
    temporal: createHttpTemporal({
      url: config.TEMPORAL_ADDRESS,
      namespace: config.TEMPORAL_NAMESPACE,
      apiKey: config.TEMPORAL_API_KEY,
      headers: config.TEMPORAL_HTTP_HEADERS,
      encryption,
    }),
    ...stores,
    encryption,
    policy: config.POLICY,
    auth: config,
    signApproval: config.APPROVAL_KEY ? createApprovalSigner(config.APPROVAL_KEY) : undefined,
    countCall: async (caller) => (await limiter?.limit({ key: caller }))?.success ?? true,
    corsOrigins: config.CORS_ORIGINS,
    // For this machine only, and not for a page that has its own name resolve to it.
    hosts: config.AUTH === 'off' ? LOOPBACK : undefined,
    onFailure: (failure) => console.error(JSON.stringify(failure)),
  });
}

export default {
  async fetch(
    request: Request,
    environment: Environment,
    context: { waitUntil(work: Promise<unknown>): void },
  ): Promise<Response> {
    const arrived = performance.now();
    const call = newCall(request.headers.get(REQUEST_ID));
    const answering = answerTo(request, environment, call).then((answer) => {
      answer.headers.set(REQUEST_ID, call.request_id);
      const access = accessOf(call, request, answer.status, performance.now() - arrived);
      if (access) console.log(JSON.stringify(access));
      return answer;
    });
    // A request runs to its end even when its caller has disconnected.
    context.waitUntil(answering);
    return answering;
  },
};

async function answerTo(request: Request, environment: Environment, call: Call): Promise<Response> {
  try {
    app ??= appOf(environment);
  } catch (error) {
    console.error(error);
    return problemResponse(new OrderError('INTERNAL', 'the API is not configured'));
  }
  return app.fetch(request, call);
}
