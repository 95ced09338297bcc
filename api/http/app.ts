import { OrderError } from '@trellis/contracts/error';
import type { PolicyName } from '@trellis/contracts/policy';
import type { AttemptReader } from '@trellis/drizzle/attempts';
import type { AdmissionStore } from '@trellis/drizzle/capacity';
import type { OrderViews } from '@trellis/drizzle/order-views';
import { fetchRequestHandler } from '@trpc/server/adapters/fetch';
import type { Context as HonoContext } from 'hono';
import { cors } from 'hono/cors';
// The preset with the smallest router: the edge bundle is bounded.
import { Hono } from 'hono/tiny';
import { createAdmission } from '../orders/admission.ts';
import { toOrderError, toTRPCError } from '../orders/errors.ts';
import { appRouter, type Context } from '../orders/router.ts';
import { createStatusReader } from '../orders/status.ts';
import type { TemporalPort } from '../temporal/port.ts';
import { answerRefused, receiveBody } from './body.ts';
import { type Failure, failureOf } from './failure.ts';
import { openApiDocument } from './openapi-from-router.ts';
import { createReadiness, type Ping } from './readiness.ts';
import { HEADERS, problemResponse } from './responses.ts';
import { createRest } from './rest-from-router.ts';

export interface AppDeps {
  temporal: TemporalPort;
  views: OrderViews;
  attempts: AttemptReader;
  capacity: AdmissionStore;
  pingDatabase: Ping;
  policy: PolicyName;
  /** Origins whose pages may call the API, `*` for all; only its own when absent. */
  corsOrigins?: string[] | undefined;
  /** Whether the process is about to stop, so that it is not ready. */
  isStopping?: () => boolean;
  /** Called for every INTERNAL and UNAVAILABLE answer. */
  onFailure: (failure: Failure) => void;
}

/** `body`: the request's, read and checked. */
type Env = { Variables: { body: string } };

/** The whole API as a fetch handler, for any runtime that has one. */
export function createApp(deps: AppDeps): Hono<Env> {
  const { temporal, views, attempts, capacity, policy, corsOrigins, onFailure } = deps;
  const status = createStatusReader({ temporal, views, attempts });
  const admission = createAdmission(capacity, policy);
  const unreachable = createReadiness({ database: deps.pingDatabase, temporal: temporal.ping });
  const contextOf = (c: HonoContext): Context => ({
    temporal,
    views,
    admission,
    status,
    policy,
    get idempotencyKey() {
      return c.req.header('idempotency-key');
    },
  });
  const report = (c: HonoContext, error: OrderError, orderId: unknown) => {
    if (error.code === 'INTERNAL' || error.code === 'UNAVAILABLE') onFailure(failureOf(c.req, error, orderId));
  };

  const app = new Hono<Env>();
  app.onError((thrown, c) => {
    const error = toOrderError(thrown);
    report(c, error, c.req.path.split('/')[2]);
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
  app.route('/', createRest(contextOf));

  // Only what follows: the answers before have the headers.
  app.use(async (c, next) => {
    await next();
    for (const [name, value] of Object.entries(HEADERS)) if (!c.res.headers.has(name)) c.res.headers.set(name, value);
  });
  app.get('/', (c) => c.redirect('/docs/', 307));
  app.on('GET', ['/health', '/livez'], (c) => c.json({ ok: true }));
  app.get('/readyz', async (c) => {
    if (deps.isStopping?.()) return c.json({ ok: false, unreachable: [] }, 503);
    const servers = await unreachable();
    return servers.length === 0 ? c.json({ ok: true }) : c.json({ ok: false, unreachable: servers }, 503);
  });
  app.get('/openapi.json', (c) => c.json(openApiDocument()));

  const trpc = (c: HonoContext, req: Request, createContext: () => Context) =>
    fetchRequestHandler({
      endpoint: '/trpc',
      router: appRouter,
      req,
      allowBatching: false,
      createContext,
      onError: ({ error, input }) => report(c, toOrderError(error), (input as { order_id?: unknown })?.order_id),
    });
  const isTrpc = (c: HonoContext) => c.req.path.startsWith('/trpc/');
  app.use(async (c, next) => {
    const body = await receiveBody(c.req.raw);
    if ('refusal' in body) {
      const { refusal, rest } = body;
      const refuse = () => {
        throw toTRPCError(refusal);
      };
      return answerRefused(isTrpc(c) ? await trpc(c, c.req.raw, refuse) : problemResponse(refusal), rest);
    }
    c.set('body', body.text);
    return next();
  });
  app.all('/trpc/*', (c) => {
    const { raw } = c.req;
    const { method, headers, signal } = raw;
    const body = new TextEncoder().encode(c.get('body'));
    const request = body.length > 0 ? new Request(raw.url, { method, headers, signal, body }) : raw;
    return trpc(c, request, () => contextOf(c));
  });
  return app;
}
