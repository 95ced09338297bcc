/** A caller of the API for the demo and the trials, over plain HTTP or over the typed client. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { createOrdersClient, type OrdersClient, orderErrorOf } from '@trellis/client';
import type { COMMAND_INPUTS, SignalOutput } from '@trellis/contracts/command-inputs';
import { COMMANDS, type Command } from '@trellis/contracts/commands';
import { ERROR_CODES, type ErrorCode } from '@trellis/contracts/error';
import type { StartInput, StartOutput } from '@trellis/contracts/order';
import type { OrderStatus } from '@trellis/contracts/order-status';
import type { InferInput } from 'valibot';
import type { CallerName, Tokens } from './stack/callers.ts';

/** An order as the API shows it. */
export type OrderView = Awaited<ReturnType<OrdersClient['get']['query']>>;

/** A command's input, without the order's id. */
export type CommandInput<C extends Command = Command> = C extends Command
  ? Omit<InferInput<(typeof COMMAND_INPUTS)[C]>, 'order_id'>
  : never;

/** `refused`: the API answered with an error. `lost`: it didn't answer, or with UNAVAILABLE or INTERNAL to the last repetition. */
type NotAccepted = { said: 'refused'; code: ErrorCode; message: string } | { said: 'lost'; message: string };

/** The answer to a start. */
type StartAnswer =
  | ({
      said: 'accepted';
      /** When the accepted request was sent, epoch milliseconds. */
      at: number;
      /** How many times the API answered BUSY before that. */
      refusals: number;
    } & StartOutput)
  | NotAccepted;

/** The answer to a command, and what was sent. `queued`: accepted, but not decided yet. */
export type Answer = { command: Command; input: CommandInput } & (
  | { said: 'accepted'; changed: boolean }
  | { said: 'queued' }
  | NotAccepted
);

/** Of the callers of one shop. */
type ShopCaller = Extract<CallerName, 'checkout' | 'office' | 'approver'>;
type ShopTokens = Pick<Tokens, ShopCaller>;

interface ShopperOptions {
  via?: 'http' | 'trpc';
  /** How long a call is repeated while the API doesn't answer or answers UNAVAILABLE or INTERNAL; default 0: it is sent once. */
  retryForMs?: number;
  /** For an API that asks for tokens: each call carries the token of who makes such calls. */
  tokens?: ShopTokens | undefined;
  /** How long one request may take before it counts as not answered. */
  timeoutMs?: number;
}

/** All methods repeat a call that the API answers with BUSY, after the time that the answer names. */
export interface Shopper {
  start(order: StartInput): Promise<StartAnswer>;
  /** Sends a command; repetitions carry the same idempotency key, a new one unless `key` is given. */
  command<C extends Command>(
    orderId: string,
    name: C,
    input: CommandInput<C>,
    options?: { key?: string },
  ): Promise<Answer>;
  /** Throws when there is no such order or no answer. */
  status(orderId: string): Promise<OrderStatus>;
  /** The order with all its events; undefined when there is no such order (yet). Throws when there is no answer. */
  get(orderId: string): Promise<OrderView | undefined>;
}

/** Creates a shopper of the API at `url`, by default over the typed client. */
export function createShopper(
  url: string,
  { via = 'trpc', retryForMs = 0, timeoutMs = 60_000, tokens }: ShopperOptions = {},
): Shopper {
  const transport = via === 'http' ? overHttp(url, tokens) : overClient(url, tokens);

  async function call<T>(
    send: (signal: AbortSignal) => Promise<T>,
  ): Promise<{ said: 'answered'; answer: T; at: number; refusals: number } | NotAccepted> {
    const end = Date.now() + retryForMs;
    for (let refusals = 0; ; ) {
      const at = Date.now();
      try {
        return { said: 'answered', answer: await send(AbortSignal.timeout(timeoutMs)), at, refusals };
      } catch (error) {
        const { code, message, retry_after = 1 } = transport.errorOf(error) ?? { message: messageOf(error) };
        const busy = code === 'BUSY';
        const transient = code === undefined || code === 'UNAVAILABLE' || code === 'INTERNAL';
        if (!busy && !transient) return { said: 'refused', code, message };
        if (transient && Date.now() >= end) return { said: 'lost', message };
        if (busy) refusals += 1;
        await sleep(1000 * retry_after);
      }
    }
  }

  return {
    async start(order) {
      const result = await call((signal) => transport.start(order, signal));
      if (result.said !== 'answered') return result;
      const { answer, at, refusals } = result;
      return { said: 'accepted', ...answer, at, refusals };
    },

    async command(orderId, command, input, { key = randomUUID() } = {}) {
      const result = await call((signal) => transport.command(orderId, command, input, key, signal));
      const sent = { command, input };
      if (result.said !== 'answered') return { ...sent, ...result };
      const { answer } = result;
      return 'queued' in answer ? { ...sent, said: 'queued' } : { ...sent, said: 'accepted', changed: answer.changed };
    },

    async status(orderId) {
      const result = await call((signal) => transport.status(orderId, signal));
      if (result.said === 'answered') return result.answer;
      throw new Error(`status of ${orderId}: ${result.message}`);
    },

    async get(orderId) {
      const result = await call((signal) => withAllEvents((after) => transport.get(orderId, after, signal)));
      if (result.said === 'answered') return result.answer;
      if (result.said === 'refused' && result.code === 'NOT_FOUND') return undefined;
      throw new Error(`order ${orderId}: ${result.message}`);
    },
  };
}

/** Reads an order page by page and returns it, as the last page has it, with the events of all pages. */
export async function withAllEvents<V extends { events: unknown[]; events_next_cursor: string | null }>(
  page: (eventsAfter: string | undefined) => Promise<V>,
): Promise<V> {
  let order = await page(undefined);
  while (order.events_next_cursor !== null) {
    const next = await page(order.events_next_cursor);
    next.events.unshift(...order.events);
    order = next;
  }
  return order;
}

/** The answer, if the start was accepted; throws an Error with the reason otherwise. */
export function accepted(answer: StartAnswer): Extract<StartAnswer, { said: 'accepted' }> {
  if (answer.said === 'accepted') return answer;
  throw new Error(`the order was not accepted: ${answer.message}`);
}

/** One way to send requests; every method rejects with an error that `errorOf` reads, if the API answered. */
interface Transport {
  start(order: StartInput, signal: AbortSignal): Promise<StartOutput>;
  command(orderId: string, name: Command, input: object, key: string, signal: AbortSignal): Promise<SignalOutput>;
  status(orderId: string, signal: AbortSignal): Promise<OrderStatus>;
  get(orderId: string, eventsAfter: string | undefined, signal: AbortSignal): Promise<OrderView>;
  errorOf(error: unknown): { code: ErrorCode; message: string; retry_after?: number } | undefined;
}

class HttpError extends Error {
  readonly problem: { code: ErrorCode; detail: string; retry_after?: number };

  constructor(problem: HttpError['problem']) {
    super(problem.detail);
    this.problem = problem;
  }
}

/** Who sends each command. */
const SENT_BY: Record<Command, ShopCaller> = { approve: 'approver', cancel: 'office', address: 'office' };

function overHttp(url: string, tokens: ShopTokens | undefined): Transport {
  async function request<T>(
    caller: ShopCaller,
    path: string,
    signal: AbortSignal,
    body?: object,
    given: Record<string, string> = {},
  ): Promise<T> {
    const headers = { ...given, ...(tokens && { authorization: `Bearer ${tokens[caller]}` }) };
    const sent = body === undefined ? { headers } : { method: 'POST', body: JSON.stringify(body), headers };
    const response = await fetch(`${url}/orders/${path}`, { ...sent, signal });
    const answer: unknown = await response.json();
    if (!response.ok) throw new HttpError(answer as HttpError['problem']);
    return answer as T;
  }
  return {
    start: ({ order_id, ...order }, signal) => request('checkout', `${order_id}/start`, signal, order),
    command: (orderId, name, input, key, signal) =>
      request(SENT_BY[name], `${orderId}/signals/${COMMANDS[name].path}`, signal, input, { 'idempotency-key': key }),
    status: (orderId, signal) => request('checkout', `${orderId}/status`, signal),
    get: (orderId, eventsAfter, signal) =>
      request('office', eventsAfter === undefined ? orderId : `${orderId}?events_after=${eventsAfter}`, signal),
    errorOf(error) {
      if (!(error instanceof HttpError) || !ERROR_CODES.includes(error.problem.code)) return undefined;
      const { code, detail, retry_after } = error.problem;
      return { code, message: detail, ...(retry_after && { retry_after }) };
    },
  };
}

function overClient(url: string, tokens: ShopTokens | undefined): Transport {
  const clients = new Map<ShopCaller, OrdersClient>();
  const of = (caller: ShopCaller): OrdersClient => {
    const client = clients.get(caller) ?? createOrdersClient(url, tokens && { token: tokens[caller] });
    clients.set(caller, client);
    return client;
  };
  /** The procedures differ in their input only. */
  type Procedure = {
    mutate(input: object, options: { context: { idempotencyKey: string }; signal: AbortSignal }): Promise<SignalOutput>;
  };
  return {
    start: (order, signal) => of('checkout').start.mutate(order, { signal }),
    command(order_id, name, input, idempotencyKey, signal) {
      const procedure = of(SENT_BY[name]).signal[COMMANDS[name].procedure] as Procedure;
      return procedure.mutate({ order_id, ...input }, { context: { idempotencyKey }, signal });
    },
    status: (order_id, signal) => of('checkout').status.query({ order_id }, { signal }),
    get: (order_id, events_after, signal) => of('office').get.query({ order_id, events_after }, { signal }),
    errorOf: orderErrorOf,
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
