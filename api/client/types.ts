/** The API's inputs and outputs. `local/pack.ts` writes each as a plain type, so that no type of the server is published. */

import type { AppRouter } from '@trellis/api/orders/router';
import type { ErrorCode, ErrorDetailsByCode } from '@trellis/contracts/error';
import type { TRPCClient } from '@trpc/client';
import type { inferRouterInputs, inferRouterOutputs } from '@trpc/server';

export type { ErrorCode, Problem } from '@trellis/contracts/error';
export type { EventType } from '@trellis/contracts/event';
export type { State, Step } from '@trellis/contracts/states-and-steps';

type Inputs = inferRouterInputs<AppRouter>['orders'];
type Outputs = inferRouterOutputs<AppRouter>['orders'];
type Calls = TRPCClient<AppRouter>['orders'];

export type StartInput = Inputs['start'];
export type Address = StartInput['address'];
export type Item = StartInput['items'][number];
export type StartOutput = Outputs['start'];

/** The answer to a command: decided, or queued, which means accepted and decided later. */
export type SignalOutput = Outputs['signal']['approve'];

/** What an order is doing right now. */
export type OrderStatus = Outputs['status'];
/** A failed attempt at an activity. */
export type FailedAttempt = OrderStatus['recent_errors'][number];

/** An order with its payments, shipments and events. */
export type OrderView = Outputs['get'];
export type Payment = OrderView['payments'][number];
export type Shipment = OrderView['shipments'][number];
export type Event = OrderView['events'][number];

export type ListInput = Inputs['list'];
export type ListOutput = Outputs['list'];
export type OrderSummary = ListOutput['orders'][number];

// A type alias: an interface would not be assignable to tRPC's own type of a context.
/** What a command may carry besides its input. */
export type CommandContext = {
  /** The command's id, 1 to 128 printable characters. Sent again under the same id, a command is applied once. */
  idempotencyKey?: string;
};

export interface ClientOptions {
  token?: string | (() => string | Promise<string>);
  headers?: Record<string, string>;
}

export interface CallOptions {
  /** Aborts the call, which then rejects with an error that has no code. */
  signal?: AbortSignal;
}

export interface CommandOptions extends CallOptions {
  context?: CommandContext;
}

export interface Query<Input, Output> {
  query: (input: Input, options?: CallOptions) => Promise<Output>;
}

export interface Mutation<Input, Output, Options = CallOptions> {
  mutate: (input: Input, options?: Options) => Promise<Output>;
}

type Typed<Procedure, Options> = Procedure extends {
  query: (input: infer Input, options?: never) => Promise<infer Output>;
}
  ? Query<Input, Output>
  : Procedure extends { mutate: (input: infer Input, options?: never) => Promise<infer Output> }
    ? Mutation<Input, Output, Options>
    : { [Name in keyof Procedure]: Typed<Procedure[Name], Options> };

/** The API's procedures; those under `signal` are the commands. */
export type OrdersClient = {
  [Name in keyof Calls]: Typed<Calls[Name], Name extends 'signal' ? CommandOptions : CallOptions>;
};

type Plain<T> = { [Key in keyof T]: T[Key] };

/** An error that the API returned; `code` determines which details it has. */
export type ClientError = {
  [Code in ErrorCode]: Plain<{ code: Code; message: string } & ErrorDetailsByCode[Code]>;
}[ErrorCode];
