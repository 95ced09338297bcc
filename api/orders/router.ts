/** The API's procedures; REST and tRPC are two ways to call them. */

import { COMMAND_NAMES, COMMANDS, type Command } from '@trellis/contracts/command';
import { COMMAND_INPUTS, IdempotencyKey, SignalOutput } from '@trellis/contracts/command-input';
import { type ErrorCode, OrderError } from '@trellis/contracts/error';
import { ListInput, ListOutput, OrderId, OrderView, StartInput, StartOutput } from '@trellis/contracts/order';
import type { PolicyName } from '@trellis/contracts/policy';
import { OrderStatus } from '@trellis/contracts/status';
import type { OrderViews } from '@trellis/drizzle/order-views';
import { initTRPC } from '@trpc/server';
import * as v from 'valibot';
import type { TemporalPort } from '../temporal/port.ts';
import type { Admission } from './admission.ts';
import { sendCommand } from './command.ts';
import { fromSql, invalid, toOrderError, toTRPCError } from './errors.ts';
import { startOrder } from './start.ts';
import type { StatusReader } from './status.ts';

export interface Context {
  temporal: TemporalPort;
  views: OrderViews;
  admission: Admission;
  status: StatusReader;
  policy: PolicyName;
  /** As the caller sent it. */
  idempotencyKey: string | undefined;
}

/** Where a procedure stands in the REST API, and what readers are told of it. */
export interface Meta {
  /** `:order_id` is taken from the path. */
  rest: { method: 'GET' | 'POST'; path: string };
  summary: string;
  /** What it can fail with, besides what every call can. */
  errors: ErrorCode[];
}

const COMMAND_ERRORS: ErrorCode[] = ['NOT_FOUND', 'TOO_LATE', 'BUSY'];

const t = initTRPC
  .context<Context>()
  .meta<Meta>()
  .create({
    isDev: false,
    errorFormatter({ shape, error }) {
      const { code, message, details } = toOrderError(error);
      return {
        ...shape,
        message,
        data: { httpStatus: shape.data.httpStatus, path: shape.data.path, code, ...details },
      };
    },
  });

const procedure = t.procedure.use(async ({ next }) => {
  const result = await next();
  if (!result.ok) throw toTRPCError(toOrderError(result.error));
  return result;
});

/** The procedure of a command. */
const command = <C extends Command>(name: C) =>
  procedure
    .meta({
      rest: { method: 'POST', path: `/orders/:order_id/signals/${COMMANDS[name].path}` },
      summary: COMMANDS[name].summary,
      errors: COMMAND_ERRORS,
    })
    .input(COMMAND_INPUTS[name])
    .output(SignalOutput)
    .mutation(({ ctx, input }) => send(ctx, name, input));

type CommandProcedures = { [C in Command as (typeof COMMANDS)[C]['procedure']]: ReturnType<typeof command<C>> };

const commands = () =>
  Object.fromEntries(COMMAND_NAMES.map((name) => [COMMANDS[name].procedure, command(name)])) as CommandProcedures;

const ById = v.object({ order_id: OrderId });

export const appRouter = t.router({
  orders: t.router({
    start: procedure
      .meta({
        rest: { method: 'POST', path: '/orders/:order_id/start' },
        summary: 'Start an order; the same body again gets the same run',
        errors: ['ORDER_CONFLICT', 'BUSY'],
      })
      .input(StartInput)
      .output(StartOutput)
      .mutation(({ ctx, input }) => startOrder(ctx, input)),
    signal: t.router(commands()),
    status: procedure
      .meta({
        rest: { method: 'GET', path: '/orders/:order_id/status' },
        summary: 'What an order is doing right now',
        errors: ['NOT_FOUND', 'BUSY'],
      })
      .input(ById)
      .output(OrderStatus)
      .query(({ ctx, input }) => ctx.status.read(input.order_id)),
    get: procedure
      .meta({
        rest: { method: 'GET', path: '/orders/:order_id' },
        summary: 'An order with its payments, shipments and events',
        errors: ['NOT_FOUND'],
      })
      .input(ById)
      .output(OrderView)
      .query(async ({ ctx, input }) => {
        const order = await fromSql(() => ctx.views.view(input.order_id));
        if (!order) throw new OrderError('NOT_FOUND', `there is no order ${input.order_id}`);
        return order;
      }),
    list: procedure
      .meta({ rest: { method: 'GET', path: '/orders' }, summary: 'Orders, the newest first', errors: [] })
      .input(ListInput)
      .output(ListOutput)
      .query(({ ctx, input }) => fromSql(() => ctx.views.list(input))),
  }),
});

export type AppRouter = typeof appRouter;

async function send(ctx: Context, command: Command, input: { order_id: string }): Promise<SignalOutput> {
  const id = ctx.idempotencyKey ?? crypto.randomUUID();
  const parsed = v.safeParse(IdempotencyKey, id);
  if (!parsed.success) throw invalid([{ path: 'Idempotency-Key', message: parsed.issues[0].message }]);
  const { order_id } = input;
  const { argument } = COMMANDS[command];
  const args = argument === null ? [] : [(input as Record<string, unknown>)[argument]];
  ctx.status.forget(order_id);
  const answer = await sendCommand(ctx, order_id, command, args, id).finally(() => ctx.status.forget(order_id));
  if ('state' in answer) ctx.status.preferWorkflow(order_id);
  return answer;
}

export const createCaller = t.createCallerFactory(appRouter);

/** The procedures that stand in the REST API, by their dotted names. */
export function restProcedures() {
  const { procedures } = appRouter._def as unknown as {
    procedures: Record<string, { _def: { meta: Meta; inputs: [v.GenericSchema]; output: v.GenericSchema } }>;
  };
  return Object.entries(procedures).map(([name, { _def }]) => ({
    name,
    meta: _def.meta,
    input: _def.inputs[0],
    output: _def.output,
  }));
}
