import type { SignApproval } from '@trellis/contracts/approval-proof';
import type { AuthConfig } from '@trellis/contracts/config/variables';
import { OrderError } from '@trellis/contracts/error';
import type { Encryption } from '@trellis/contracts/payload-codec';
import type { PolicyName } from '@trellis/contracts/policy';
import type { AdmissionStore } from '@trellis/drizzle/capacity';
import type { OrderViews } from '@trellis/drizzle/order-views';
import type { PriceStore } from '@trellis/drizzle/prices';
import { fetchRequestHandler } from '@trpc/server/adapters/fetch';
import type { Context as HonoContext } from 'hono';
import { cors } from 'hono/cors';
// The preset with the smallest router: the edge bundle is bounded.
import { Hono } from 'hono/tiny';
import type { Caller } from '../callers/caller.ts';
import { type CountCall, checkRate } from '../callers/rate.ts';
import { createAuthenticate } from '../callers/tokens.ts';
import { createAdmission } from '../orders/admission.ts';
import { toOrderError, toTRPCError } from '../orders/errors.ts';
import { createPriceCheck } from '../orders/price-check.ts';
import { appRouter, type Context } from '../orders/router.ts';
import { createStatusReader } from '../orders/status.ts';
import type { TemporalPort } from '../temporal/port.ts';
import { type Call, REQUEST_ID } from './access-log.ts';
import { answerRefused, type Body, receiveBody } from './body.ts';
import { type Failure, failureOf } from './failure.ts';
import { createSiteCheck } from './other-sites.ts';
import { createReadiness, type Ping } from './readiness.ts';
import { jsonResponse, problemResponse, redirect, withHeaders } from './responses.ts';
import { createRest } from './rest-from-router.ts';

export interface AppDeps {
  temporal: TemporalPort;
  views: OrderViews;
  capacity: AdmissionStore;
  prices: PriceStore;
  pingDatabase: Ping;
  policy: PolicyName;
  /** Who may call the API. */
  auth: AuthConfig;
  /** That of the port; nothing is encrypted when absent. */
  encryption?: Encryption | undefined;
  /** Signs approvals; they are not signed when absent. */
  signApproval?: SignApproval | undefined;
  /** Counts the calls of callers with tokens; they are not counted when absent. */
  countCall?: CountCall | undefined;
  /** Origins whose pages may call the API, `*` for all; only its own when absent. */
  corsOrigins?: string[] | undefined;
  /** The names in the Host headers of the requests that are served; any when absent. */
  hosts?: readonly string[] | undefined;
  /** Whether the process is about to stop, so that it is not ready. */
  isStopping?: () => boolean;
  /** Adds the codec endpoint (codec.ts); there is none when absent. */
  addCodec?: ((app: Hono, identify: Identify) => void) | undefined;
  /** Called for every INTERNAL and UNAVAILABLE answer. */
  onFailure: (failure: Failure) => void;
}

/** Finds out who sent a request, and counts the call. Throws UNAUTHENTICATED, BUSY, or UNAVAILABLE. */
export type Identify = (c: HonoContext) => Promise<Caller>;

/**
 * The whole API as a fetch handler, for any runtime that has one. Its second argument, if any, is the request's `Call`, to which it adds
 * the caller. A request matches one handler only (two with CORS): Hono calls a single one without composing middleware.
 */
export function createApp(deps: AppDeps): Hono {
  const { temporal, views, capacity, policy, auth, corsOrigins, hosts, onFailure } = deps;
  const status = createStatusReader({ temporal, views });
  const admission = createAdmission(capacity, policy);
  const checkPrices = createPriceCheck(deps.prices);
  const authenticate = createAuthenticate(auth);
  const countCall = auth.AUTH === 'on' ? deps.countCall : undefined;
  const unreachable = createReadiness({ database: deps.pingDatabase, temporal: temporal.ping });
  const callOf = (c: HonoContext): Call | undefined => c.env;
  const identify: Identify = async (c) => {
    const caller = await authenticate(c.req.raw);
    const call = callOf(c);
    // Before it may be refused, so that the log names who makes too many calls.
    if (call) call.caller = caller.actor;
    if (countCall) await checkRate(caller, countCall);
    return caller;
  };
  const contextOf = async (c: HonoContext): Promise<Context> => {
    const caller = await identify(c);
    return {
      temporal,
      views,
      admission,
      checkPrices,
      status,
      policy,
      encryption: deps.encryption,
      signApproval: deps.signApproval,
      caller,
      get idempotencyKey() {
        return c.req.header('idempotency-key');
      },
    };
  };
  const refusalOf = createSiteCheck(corsOrigins, hosts);
  const receive = async (request: Request): Promise<Body> => {
    const body = await receiveBody(request);
    const refusal = 'refusal' in body ? undefined : refusalOf(request);
    return refusal ? { refusal } : body;
  };
  const report = (c: HonoContext, error: OrderError, orderId: unknown) => {
    if (error.code === 'INTERNAL' || error.code === 'UNAVAILABLE')
      onFailure(failureOf(c.req, error, orderId, callOf(c)?.request_id));
  };

  const app = new Hono();
  app.onError((thrown, c) => {
    const error = toOrderError(thrown);
    report(c, error, /^\/orders\/([^/]+)/.exec(c.req.path)?.[1]);
    return problemResponse(error);
  });
  app.notFound(async (c) => {
    const body = await receiveBody(c.req.raw);
    if ('refusal' in body) return answerRefused(problemResponse(body.refusal), body.rest);
    return problemResponse(new OrderError('NOT_FOUND', 'no such route'));
  });

  // Before CORS_ORIGINS, which do not hold for it.
  deps.addCodec?.(app, identify);
  if (corsOrigins)
    app.use(
      cors({
        origin: corsOrigins.includes('*') ? '*' : corsOrigins,
        exposeHeaders: ['retry-after', REQUEST_ID],
      }),
    );
  app.route('/', createRest(contextOf, receive));

  app.get('/', () => redirect('/docs/'));
  app.on('GET', ['/health', '/livez'], () => jsonResponse({ ok: true }));
  app.get('/readyz', async () => {
    if (deps.isStopping?.()) return jsonResponse({ ok: false, unreachable: [] }, 503);
    const servers = await unreachable();
    return servers.length === 0 ? jsonResponse({ ok: true }) : jsonResponse({ ok: false, unreachable: servers }, 503);
  });

  const trpc = (c: HonoContext, req: Request, createContext: () => Promise<Context>) =>
    fetchRequestHandler({
      endpoint: '/trpc',
      router: appRouter,
      req,
      allowBatching: false,
      createContext,
      onError: ({ error, input }) => report(c, toOrderError(error), (input as { order_id?: unknown })?.order_id),
    });
  app.all('/trpc/*', async (c) => {
    const { raw } = c.req;
    const received = await receive(raw);
    if ('refusal' in received) {
      const refuse = async () => {
        throw toTRPCError(received.refusal);
      };
      return answerRefused(withHeaders(await trpc(c, raw, refuse)), received.rest);
    }
    const { method, headers, signal } = raw;
    const body = new TextEncoder().encode(received.text);
    const request = body.length > 0 ? new Request(raw.url, { method, headers, signal, body }) : raw;
    const createContext = () =>
      contextOf(c).catch((error) => {
        throw toTRPCError(toOrderError(error));
      });
    return withHeaders(await trpc(c, request, createContext));
  });
  return app;
}
