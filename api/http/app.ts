import { OrderError } from '@trellis/contracts/error';
import type { PolicyName } from '@trellis/contracts/policy';
import type { AttemptStore } from '@trellis/drizzle/attempts';
import type { CapacityStore } from '@trellis/drizzle/capacity';
import type { OrderViews } from '@trellis/drizzle/order-views';
import { fetchRequestHandler } from '@trpc/server/adapters/fetch';
import { Hono, type Context as HonoContext } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { cors } from 'hono/cors';
import { createAdmission } from '../orders/admission.ts';
import { toOrderError, toTRPCError } from '../orders/errors.ts';
import { appRouter, type Context } from '../orders/router.ts';
import { createStatusReader } from '../orders/status.ts';
import type { TemporalPort } from '../temporal/port.ts';
import { openApiDocument } from './openapi-from-router.ts';
import { problemResponse } from './problem.ts';
import { createRest } from './rest-from-router.ts';

export interface AppDeps {
  temporal: TemporalPort;
  views: OrderViews;
  attempts: AttemptStore;
  capacity: CapacityStore;
  policy: PolicyName;
  /** Origins whose pages may call the API, `*` for all; only its own when absent. */
  corsOrigins?: string[] | undefined;
  /** Called with the cause of every INTERNAL and UNAVAILABLE answer. */
  onError: (error: unknown) => void;
}

const MAX_BODY_BYTES = 64 * 1024;

/** The whole API as a fetch handler, for any runtime that has one. */
export function createApp({ temporal, views, attempts, capacity, policy, corsOrigins, onError }: AppDeps): Hono {
  const status = createStatusReader({ temporal, views, attempts });
  const admission = createAdmission(capacity, policy);
  const contextOf = (c: HonoContext): Context => ({
    temporal,
    views,
    admission,
    status,
    policy,
    idempotencyKey: c.req.header('idempotency-key'),
  });
  const report = (error: OrderError) => {
    if (error.code === 'INTERNAL' || error.code === 'UNAVAILABLE') onError(error.cause ?? error);
  };

  const app = new Hono();
  app.onError((thrown) => {
    const error = toOrderError(thrown);
    report(error);
    return problemResponse(error);
  });
  app.notFound(() => problemResponse(new OrderError('NOT_FOUND', 'no such route')));

  if (corsOrigins)
    app.use(
      cors({
        origin: corsOrigins.includes('*') ? '*' : corsOrigins,
        exposeHeaders: ['retry-after'],
      }),
    );
  app.get('/', (c) => c.redirect('/docs/', 307));
  // Before the body limit: a health check has no body and must depend on nothing.
  app.get('/health', (c) => c.json({ ok: true }));
  app.get('/openapi.json', (c) => c.json(openApiDocument()));
  const tooLarge = new OrderError('PAYLOAD_TOO_LARGE', 'the body is larger than 64 kB');
  const limited = (onError: (c: HonoContext) => Response | Promise<Response>) =>
    bodyLimit({ maxSize: MAX_BODY_BYTES, onError });
  const trpc = (c: HonoContext, createContext: () => Context) =>
    fetchRequestHandler({
      endpoint: '/trpc',
      router: appRouter,
      req: c.req.raw,
      createContext,
      onError: ({ error }) => report(toOrderError(error)),
    });
  // REST and tRPC each answer a body that is too large in their own format.
  const refuse = () => {
    throw toTRPCError(tooLarge);
  };
  app.all(
    '/trpc/*',
    limited((c) => trpc(c, refuse)),
    (c) => trpc(c, () => contextOf(c)),
  );
  app.use(limited(() => problemResponse(tooLarge)));
  app.route('/', createRest(contextOf));
  return app;
}
