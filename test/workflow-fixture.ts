/** The real workflows, activities and stores; only the two companies can be made to misbehave. */

import { setImmediate } from 'node:timers/promises';
import {
  type Client,
  type WorkflowHandle,
  type WorkflowStartOptions,
  WorkflowUpdateFailedError,
} from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker } from '@temporalio/worker';
import { COMMANDS, type Command, type CommandAnswer } from '@trellis/contracts/command';
import { createLogger } from '@trellis/contracts/config/logger';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import type { OrderView, StartInput } from '@trellis/contracts/order';
import type { WorkflowStatus } from '@trellis/contracts/status';
import { ORDER_WORKFLOW, ORDERS_QUEUE, orderWorkflowId, STATUS_QUERY } from '@trellis/contracts/temporal';
import { createAttemptStore } from '@trellis/drizzle/attempts';
import { openDatabase } from '@trellis/drizzle/client';
import type { Database } from '@trellis/drizzle/database';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { createPaymentStore } from '@trellis/drizzle/payments';
import { audit } from '@trellis/drizzle/sandbox/audit';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox/books';
import { sandboxCharges } from '@trellis/drizzle/sandbox/schema';
import { createShipmentStore } from '@trellis/drizzle/shipments';
import { createAttemptLog } from '@trellis/workers/activities/attempt-log';
import { createActivities } from '@trellis/workers/activities/index';
import type { Carrier } from '@trellis/workers/providers/carrier';
import type { PaymentCompany } from '@trellis/workers/providers/payment-company';
import { createSandboxCarrier } from '@trellis/workers/providers/sandbox/carrier';
import { createSandboxPaymentCompany } from '@trellis/workers/providers/sandbox/payment-company';
import { installTemporalRuntime } from '@trellis/workers/temporal-runtime';
import { bundleWorkflows, createWorker, type QueueName } from '@trellis/workers/worker';
import { eq } from 'drizzle-orm';
import { afterAll, afterEach, expect, inject, onTestFinished } from 'vitest';
import { anOrder, eventually, freshDatabase, freshId } from './fixtures.ts';

/** What a company does with a call; `call` counts them from 1. The call reaches the company when `real` is called. */
export type Twist = <T>(real: () => Promise<T>, call: number) => Promise<T>;
export type Call = 'charge' | 'refund' | 'dispatch' | 'close';
type Twisted = <T>(real: () => Promise<T>) => Promise<T>;

export const hangs: Twist = () => new Promise(() => {});
export const commitsThenHangs: Twist = async (real) => {
  await real();
  return new Promise(() => {});
};
export const losesFirstAnswer: Twist = async (real, call) => {
  const answer = await real();
  if (call === 1) throw Object.assign(new Error('connection reset'), { code: 'ECONNRESET' });
  return answer;
};
export const failsTwice: Twist = async (real, call) => {
  if (call <= 2) throw new Error('connection refused');
  return real();
};

/** Holds a company's calls, either before it hears of them or before it answers, until `open`. */
export function gate() {
  const [reached, opened, answered] = [
    Promise.withResolvers<void>(),
    Promise.withResolvers<void>(),
    Promise.withResolvers<unknown>(),
  ];
  const before: Twist = async (real) => {
    reached.resolve();
    await opened.promise;
    const answer = await real();
    answered.resolve(answer);
    return answer;
  };
  const after: Twist = async (real) => {
    const answer = await real();
    reached.resolve();
    await opened.promise;
    answered.resolve(answer);
    return answer;
  };
  /** The first call alone, before its answer. */
  const afterFirst: Twist = (real, call) => (call === 1 ? after(real, call) : real());
  return {
    before,
    after,
    afterFirst,
    reached: reached.promise,
    open: () => opened.resolve(),
    answered: answered.promise,
  };
}

export type Shop = Awaited<ReturnType<typeof openShop>>;

export interface ShopOptions {
  /** Whose workers run from the start. */
  queues?: QueueName[];
  flakyCall?: () => Promise<void>;
  /** False has every workflow task replay the whole history; then a worker may be replaced on the skipping server too. */
  remembering?: boolean;
  /**
   * `skipping` (by default) passes the time that nobody needs while a test waits for an order's end. It doesn't once a
   * workflow closed over a call that hung, never tells a parent of its child's termination, and never gives up a
   * stopped worker's sticky queue: `real` is the dev server, where time passes as it does for everybody.
   */
  clock?: 'skipping' | 'real';
}

export interface PlaceOptions extends Partial<WorkflowStartOptions> {
  /** Instead of the order. */
  args?: unknown[];
  twists?: Partial<Record<Call, Twist>>;
  /** Sent with the start. */
  signal?: string;
  signalArgs?: unknown[];
  client?: Client;
}

export const log = createLogger('error');
installTemporalRuntime(log);
const bundle = bundleWorkflows();

/** A shop has a database and a Temporal server, or namespace, of its own, so a test may judge all of both. */
export async function openShop(options: ShopOptions = {}) {
  const { queues = ['orders', 'shipping'], flakyCall, remembering = true, clock = 'skipping' } = options;
  const env = await (clock === 'skipping' ? skippingServer() : realServer());
  const namespace = env.namespace ?? 'default';
  const { url, db: plain, drop } = await freshDatabase();
  const transactions = new Set<Promise<unknown>>();
  const db: Database = {
    ...plain,
    transaction(work) {
      const transaction = plain.transaction(work);
      transactions.add(transaction);
      const over = () => transactions.delete(transaction);
      transaction.then(over, over);
      return transaction;
    },
  };
  const sandbox = openDatabase(url);
  const views = createOrderViews(db);
  const parcels = createParcelBook(sandbox);
  const attemptStore = createAttemptStore(db);
  const attemptLog = createAttemptLog(attemptStore, log);
  const twists = new Map<string, Twisted>();
  const deps = {
    views,
    orders: createOrderStore(db),
    payments: createPaymentStore(db),
    shipments: createShipmentStore(db),
    ...twistedCompanies(twists, createSandboxPaymentCompany(createPaymentBook(sandbox)), createSandboxCarrier(parcels)),
    onFailedAttempt: attemptLog.record,
    ...(flakyCall && { flakyCall }),
  };
  const activities = createActivities(deps);
  const stops = new Set<() => Promise<void>>();
  const placed: PlacedOrder[] = [];

  /** Starts workers; answers how to stop them. */
  async function work(...names: QueueName[]): Promise<() => Promise<void>> {
    const workflowBundle = await bundle;
    const { nativeConnection: connection } = env;
    const memory = remembering ? {} : { maxCachedWorkflows: 0 };
    const workers = await Promise.all(
      names.map((name) => createWorker(name, { connection, namespace, activities, workflowBundle, ...memory })),
    );
    const running = Promise.all(workers.map((worker) => worker.run()));
    const stop = async () => {
      if (!stops.delete(stop)) return;
      for (const worker of workers) worker.shutdown();
      await running;
    };
    stops.add(stop);
    return stop;
  }
  await work(...queues);

  return {
    env,
    db,
    databaseUrl: url,
    work,
    /** A client to whom time passes as it does for everybody. */
    patient: createTemporalClient(env.connection, namespace),

    /** Starts an order as any Temporal caller would. */
    async place(order: StartInput = anOrder(), options: PlaceOptions = {}): Promise<PlacedOrder> {
      const { args = [order], twists: own = {}, signal, signalArgs = [], client = env.client, ...rest } = options;
      for (const [call, twist] of Object.entries(own)) twists.set(`${call} ${order.order_id}`, counting(twist));
      const start = { workflowId: orderWorkflowId(order.order_id), taskQueue: ORDERS_QUEUE, args, ...rest };
      const handle = await (signal === undefined
        ? client.workflow.start(ORDER_WORKFLOW, start)
        : client.workflow.signalWithStart(ORDER_WORKFLOW, { ...start, signal, signalArgs }));
      const one = placedOrder(order, handle, views);
      placed.push(one);
      return one;
    },

    /** Places an order that is approved from the start. */
    approved(order?: StartInput, options?: PlaceOptions): Promise<PlacedOrder> {
      return this.place(order, { signal: 'approve', ...options });
    },

    /** Waits for the transactions that were begun by now. */
    async quiet(): Promise<void> {
      await setImmediate();
      await Promise.allSettled(transactions);
    },

    /** The order's failed attempts. */
    async failures(orderId: string): Promise<{ step: string; error: string }[]> {
      await attemptLog.flush();
      const { errors } = await attemptStore.recent(orderId, 100);
      return errors.map(({ step, error }) => ({ step, error }));
    },

    /** The companies' books on an order. */
    async books(orderId: string) {
      const ofOrder = eq(sandboxCharges.order_id, orderId);
      const charges = await sandbox.run((session) => session.select().from(sandboxCharges).where(ofOrder));
      return {
        charges: charges.map((row) => row.status),
        parcel: await parcels.find(orderId),
      };
    },

    /** What no order may leave behind: books that disagree, a workflow task that failed, a history that doesn't replay, a workflow that ended in an error. */
    async wrongs(): Promise<unknown[]> {
      const lives = await Promise.all(placed.splice(0).map(lifeOf));
      return [...(await audit(db)), ...lives.flatMap(brokenTasks), ...(await unlikeTheCode(lives))];
    },

    async close() {
      await Promise.all([...stops].map((stop) => stop()));
      await attemptLog.flush();
      await env.teardown();
      await sandbox.close();
      await drop();
    },
  };
}

function skippingServer(): Promise<TestWorkflowEnvironment> {
  const path = inject('testServer');
  return TestWorkflowEnvironment.createTimeSkipping(
    path === '' ? {} : { server: { executable: { type: 'existing-path', path } } },
  );
}

async function realServer(): Promise<TestWorkflowEnvironment> {
  const namespace = freshId('test');
  const env = await TestWorkflowEnvironment.createFromExistingServer({
    address: inject('addresses').TEMPORAL_ADDRESS,
    namespace,
  });
  const { workflowService } = env.connection;
  await workflowService.registerNamespace({
    namespace,
    workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
  });
  await eventually(async () => {
    try {
      return await workflowService.countWorkflowExecutions({ namespace });
    } catch {
      return false;
    }
  });
  return env;
}

/** The shop that a file's tests share, one after the other; none of them may leave anything wrong. */
export async function sharedShop(): Promise<Shop> {
  const shop = await openShop();
  afterEach(async () => expect(await shop.wrongs()).toEqual([]));
  afterAll(() => shop.close());
  return shop;
}

/** A shop for one test, which may stop its workers or move its clock. */
export async function ownShop(options: ShopOptions): Promise<Shop> {
  const shop = await openShop(options);
  onTestFinished(() => shop.close());
  return shop;
}

export type PlacedOrder = ReturnType<typeof placedOrder>;

function placedOrder(order: StartInput, handle: WorkflowHandle, { find, view }: ReturnType<typeof createOrderViews>) {
  const id = order.order_id;
  return {
    id,
    order,
    handle,
    status: () => handle.query<WorkflowStatus>(STATUS_QUERY),
    /** The order's row. */
    async row() {
      const row = await find(id);
      if (!row) throw new Error(`order ${id} has no row`);
      return row;
    },
    async view(): Promise<OrderView> {
      const seen = await view(id);
      if (!seen) throw new Error(`order ${id} has no row`);
      return seen;
    },
    events: async () => (await view(id))?.events.map((event) => event.type),
    update: (command: Command, args: unknown[] = [], updateId?: string): Promise<CommandAnswer> =>
      handle.executeUpdate<CommandAnswer, [unknown, ...unknown[]]>(COMMANDS[command].temporal, {
        args: args as [unknown],
        ...(updateId !== undefined && { updateId }),
      }),
    signal: (command: Command, ...args: unknown[]) => handle.signal(COMMANDS[command].temporal, ...args),
    /** A signal whose argument is bytes of our making. */
    signalRaw: (command: Command, json: string) =>
      handle.client.workflowService.signalWorkflowExecution({
        namespace: handle.client.options.namespace,
        workflowExecution: { workflowId: handle.workflowId },
        signalName: COMMANDS[command].temporal,
        input: { payloads: [{ metadata: { encoding: Buffer.from('json/plain') }, data: Buffer.from(json) }] },
      }),
    /** Waits for the order's end, skipping the time nobody needs; answers the workflow's result. */
    end: (): Promise<unknown> => handle.result(),
    /** From start to close by the server's clock. */
    async lasted(): Promise<number> {
      const { startTime, closeTime } = await handle.describe();
      return (closeTime?.getTime() ?? Number.POSITIVE_INFINITY) - startTime.getTime();
    },
  };
}

type WorkflowLife = Awaited<ReturnType<typeof lifeOf>>;

async function lifeOf({ handle }: PlacedOrder) {
  const [history, { status }] = await Promise.all([handle.fetchHistory(), handle.describe()]);
  return { workflowId: handle.workflowId, history, status: status.name };
}

function brokenTasks({ workflowId, history, status }: WorkflowLife): string[] {
  const failures = (history.events ?? []).map((event) => event.workflowTaskFailedEventAttributes?.failure?.message);
  return [
    ...failures
      .filter((message) => message !== undefined)
      .map((message) => `${workflowId}: workflow task failed: ${message}`),
    ...(status === 'COMPLETED' ? [] : [`${workflowId}: the workflow is ${status}`]),
  ];
}

async function unlikeTheCode(lives: WorkflowLife[]): Promise<string[]> {
  const unlike: string[] = [];
  for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle: await bundle }, lives))
    if (error) unlike.push(`${workflowId}: does not replay: ${error.message}`);
  return unlike;
}

/** Why an update was refused. */
export async function refusal(update: Promise<CommandAnswer>): Promise<{ code: unknown; details: unknown }> {
  const error = await update.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof WorkflowUpdateFailedError && error.cause instanceof ApplicationFailure))
    throw new Error('the update was not refused', { cause: error });
  return { code: error.cause.type, details: error.cause.details?.[0] };
}

export async function expectTooLate(order: PlacedOrder, ...commands: Command[]): Promise<void> {
  const address = { line1: '9 Elm', city: 'Boston' };
  for (const command of commands)
    expect(await refusal(order.update(command, command === 'address' ? [address] : []))).toMatchObject({
      code: 'TOO_LATE',
      details: { state: expect.any(String) },
    });
}

function counting(twist: Twist): Twisted {
  let calls = 0;
  return (real) => {
    calls += 1;
    return twist(real, calls);
  };
}

function twistedCompanies(twists: Map<string, Twisted>, payments: PaymentCompany, parcels: Carrier) {
  const via = <T>(call: Call, orderId: string, real: () => Promise<T>): Promise<T> => {
    const twist = twists.get(`${call} ${orderId}`);
    return twist ? twist(real) : real();
  };
  const paymentCompany: PaymentCompany = {
    charge: (payment) => via('charge', payment.order_id, () => payments.charge(payment)),
    refund: (payment) => via('refund', payment.order_id, () => payments.refund(payment)),
  };
  const carrier: Carrier = {
    dispatch: (orderId, address) => via('dispatch', orderId, () => parcels.dispatch(orderId, address)),
    close: (orderId) => via('close', orderId, () => parcels.close(orderId)),
  };
  return { paymentCompany, carrier };
}
