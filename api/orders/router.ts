/** Declare a route here: a procedure with its REST method and path in `meta`. rest-from-router.ts and openapi-from-router.ts generate the rest. */

import type { Actor } from '@trellis/contracts/actor';
import type { SignApproval } from '@trellis/contracts/approval-proof';
import { COMMAND_INPUTS, IdempotencyKey, SignalOutput } from '@trellis/contracts/command-inputs';
import { COMMAND_NAMES, COMMANDS, type Command } from '@trellis/contracts/commands';
import type { ErrorCode, ErrorDetails, Problem } from '@trellis/contracts/error';
import { recordedId } from '@trellis/contracts/id';
import {
  GetInput,
  ListInput,
  ListOutput,
  OrderRef,
  OrderView,
  problemsOf,
  StartInput,
  StartOutput,
} from '@trellis/contracts/order';
import { OrderStatus } from '@trellis/contracts/order-status';
import type { Encryption } from '@trellis/contracts/payload-codec';
import type { PolicyName } from '@trellis/contracts/policy';
import { commandIdOf } from '@trellis/contracts/request-hash';
import type { Scope } from '@trellis/contracts/scopes';
import type { OrderViews } from '@trellis/drizzle/order-views';
import { initTRPC } from '@trpc/server';
import * as v from 'valibot';
import { asNamedBy, authorize, type Caller, listsOf, recordedOrder, startsIn, viewFor } from '../callers/caller.ts';
import type { TemporalPort } from '../temporal/port.ts';
import type { Admission } from './admission.ts';
import { eraseOrder } from './erase-order.ts';
import { fromSql, invalid, toOrderError, toTRPCError } from './errors.ts';
import { getOrder } from './get-order.ts';
import type { PriceCheck } from './price-check.ts';
import { sendCommand } from './send-command.ts';
import { startOrder } from './start-order.ts';
import type { StatusReader } from './status.ts';

export interface Context {
  temporal: TemporalPort;
  views: OrderViews;
  admission: Admission;
  checkPrices: PriceCheck;
  status: StatusReader;
  policy: PolicyName;
  /** Absent where nothing is encrypted. */
  encryption: Encryption | undefined;
  caller: Caller;
  /** Absent where approvals are not signed. */
  signApproval: SignApproval | undefined;
  /** The Idempotency-Key header, not yet validated. */
  idempotencyKey: string | undefined;
}

/** Who may call a procedure, and how it appears in REST and in the OpenAPI document. */
export interface Meta {
  scope: Scope;
  /** Its route; a `:name` in the path is the input's field of that name. Absent: callable by tRPC only. */
  rest?: { method: 'GET' | 'POST'; path: string };
  summary: string;
  /** The error codes it can fail with, besides those that every call can. */
  errors: ErrorCode[];
  /** The command it sends; such a procedure takes an Idempotency-Key. */
  command?: Command;
}

const COMMAND_ERRORS: ErrorCode[] = ['NOT_FOUND', 'TOO_LATE', 'TOO_MANY'];

const t = initTRPC
  .context<Context>()
  .meta<Meta>()
  .create({
    isDev: false,
    errorFormatter({ shape, error }) {
      const failure = toOrderError(error);
      const details: ErrorDetails = failure.details;
      return {
        ...shape,
        message: failure.message,
        data: { httpStatus: shape.data.httpStatus, path: shape.data.path, code: failure.code, ...details },
      };
    },
  });

/** The only way to make a procedure, so that none is without a scope. */
const procedure = (meta: Meta) =>
  t.procedure.meta(meta).use(async ({ ctx, next }) => {
    try {
      authorize(ctx.caller, meta.scope);
    } catch (error) {
      // tRPC would answer 500 to an error of another class than its own.
      throw toTRPCError(toOrderError(error));
    }
    const result = await next();
    if (!result.ok) throw toTRPCError(toOrderError(result.error));
    return result;
  });

/** The procedure of one entry of COMMANDS. */
const command = <C extends Command>(name: C) =>
  procedure({
    scope: name === 'approve' ? 'orders:approve' : 'orders:change',
    rest: { method: 'POST', path: `/orders/:order_id/signals/${COMMANDS[name].path}` },
    summary: COMMANDS[name].summary,
    errors: COMMAND_ERRORS,
    command: name,
  })
    .input(COMMAND_INPUTS[name])
    .output(SignalOutput)
    .mutation(({ ctx, input }) => send(ctx, name, input));

type CommandProcedures = { [C in Command as (typeof COMMANDS)[C]['procedure']]: ReturnType<typeof command<C>> };

const commands = () =>
  Object.fromEntries(COMMAND_NAMES.map((name) => [COMMANDS[name].procedure, command(name)])) as CommandProcedures;

const ById = v.object({ order_id: OrderRef });

export const appRouter = t.router({
  orders: t.router({
    start: procedure({
      scope: 'orders:start',
      rest: { method: 'POST', path: '/orders/:order_id/start' },
      summary: 'Start an order; sending the same body again returns the same run',
      errors: ['NOT_FOUND', 'ORDER_CONFLICT'],
    })
      .input(StartInput)
      .output(StartOutput)
      .mutation(({ ctx, input }) => {
        const { caller } = ctx;
        const order_id = recordedOrder(caller, input.order_id);
        const payment_id = recordedId(startsIn(caller), input.payment_id);
        return startOrder(ctx, { ...input, order_id, payment_id }, caller.actor);
      }),
    signal: t.router(commands()),
    erase: procedure({
      scope: 'orders:operate',
      rest: { method: 'POST', path: '/orders/:order_id/erase' },
      summary: 'Erase the personal data of an order that has ended',
      errors: ['NOT_FOUND', 'TOO_EARLY'],
    })
      .input(ById)
      .output(SignalOutput)
      .mutation(({ ctx, input }) => {
        const order_id = recordedOrder(ctx.caller, input.order_id);
        return eraseOrder(ctx, order_id, ctx.caller.actor).finally(() => ctx.status.forget(order_id));
      }),
    status: procedure({
      scope: 'orders:read',
      rest: { method: 'GET', path: '/orders/:order_id/status' },
      summary: 'What an order is doing right now',
      errors: ['NOT_FOUND'],
    })
      .input(ById)
      .output(OrderStatus)
      .query(async ({ ctx: { caller, status }, input }) =>
        asNamedBy(caller, await status.read(recordedOrder(caller, input.order_id))),
      ),
    get: procedure({
      scope: 'orders:read:personal',
      rest: { method: 'GET', path: '/orders/:order_id' },
      summary: 'An order with its payments, shipments and events',
      errors: ['NOT_FOUND'],
    })
      .input(GetInput)
      .output(OrderView)
      .query(async ({ ctx, input }) => {
        const order_id = recordedOrder(ctx.caller, input.order_id);
        return viewFor(ctx.caller, await getOrder(ctx, { ...input, order_id }));
      }),
    list: procedure({
      scope: 'orders:list',
      rest: { method: 'GET', path: '/orders' },
      summary: 'Orders, the newest first',
      errors: [],
    })
      .input(ListInput)
      .output(ListOutput)
      .query(async ({ ctx: { caller, views }, input }) => {
        const page = await fromSql(() => views.list(input, listsOf(caller)));
        return { ...page, orders: page.orders.map((order) => asNamedBy(caller, order)) };
      }),
  }),
});

export type AppRouter = typeof appRouter;

async function send(ctx: Context, command: Command, input: { order_id: string }): Promise<SignalOutput> {
  const { caller, idempotencyKey: key } = ctx;
  const parsed = v.safeParse(v.optional(IdempotencyKey), key);
  if (!parsed.success) throw invalid([{ path: 'Idempotency-Key', message: parsed.issues[0].message }]);
  const id = key === undefined ? crypto.randomUUID() : await commandIdOf(caller.actor, key);
  const order_id = recordedOrder(caller, input.order_id);
  const { argument } = COMMANDS[command];
  const args = argument === null ? [] : [(input as Record<string, unknown>)[argument]];
  ctx.status.forget(order_id);
  const { actor } = caller;
  const proof = command === 'approve' ? await ctx.signApproval?.({ order_id, id }, actor) : undefined;
  const from: [Actor, string?] = proof === undefined ? [actor] : [actor, proof];
  const answer = await sendCommand(ctx, order_id, command, args, id, from).finally(() => ctx.status.forget(order_id));
  if ('state' in answer) ctx.status.preferWorkflow(order_id);
  return answer;
}

export interface RestProcedure {
  /** Dotted, such as `orders.signal.approve`. */
  name: string;
  meta: Meta & { rest: NonNullable<Meta['rest']> };
  input: v.GenericSchema;
  output: v.GenericSchema;
  /**
   * Calls it as tRPC does, without tRPC's layers, which cost several times as much as an invalid input. Such an input is no exception:
   * an error's stack would cost as much as the rest. Throws what the procedure throws.
   */
  call(ctx: Context, input: unknown): Promise<{ output: unknown } | { problems: Problem[] }>;
}

/** The router's procedures that have a REST route. */
export function restProcedures(router: { _def: { procedures: object } } = appRouter): RestProcedure[] {
  const procedures = router._def.procedures as Record<
    string,
    {
      _def: {
        meta: Meta;
        inputs: [v.GenericSchema];
        output: v.GenericSchema;
        resolver: (given: { ctx: Context; input: unknown }) => Promise<unknown>;
      };
    }
  >;
  return Object.entries(procedures).flatMap(([name, { _def }]) => {
    const { meta, inputs, output, resolver } = _def;
    const { rest } = meta;
    const [input] = inputs;
    const call = async (ctx: Context, given: unknown) => {
      authorize(ctx.caller, meta.scope);
      const parsed = v.safeParse(input, given);
      if (!parsed.success) return { problems: problemsOf(parsed.issues) };
      return { output: v.parse(output, await resolver({ ctx, input: parsed.output })) };
    };
    return rest ? [{ name, meta: { ...meta, rest }, input, output, call }] : [];
  });
}
