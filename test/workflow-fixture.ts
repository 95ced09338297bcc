/** The real workflows, activities and stores on a Temporal server that skips time; only the two companies can be made to misbehave. */
import { Client, type WorkflowHandle, WorkflowUpdateFailedError, type WorkflowStartOptions } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import type { Command } from '@trellis/contracts/command';
import type { OrderView, StartInput } from '@trellis/contracts/order';
import type { WorkflowStatus } from '@trellis/contracts/status';
import {
  COMMAND_NAMES,
  ORDER_WORKFLOW,
  ORDERS_QUEUE,
  orderWorkflowId,
  STATUS_QUERY,
  type UpdateResult,
} from '@trellis/contracts/temporal';
import { createAttemptStore } from '@trellis/drizzle/attempts';
import { audit } from '@trellis/drizzle/audit';
import { openDatabase } from '@trellis/drizzle/client';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { createPaymentStore } from '@trellis/drizzle/payments';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox';
import { sandboxCharges } from '@trellis/drizzle/schema';
import { createShipmentStore } from '@trellis/drizzle/shipments';
import { createOrderActivities, createShippingActivities } from '@trellis/workers/activities/index';
import { createAttemptLog } from '@trellis/workers/attempt-log';
import { createLogger } from '@trellis/workers/logger';
import type { Carrier } from '@trellis/workers/providers/carrier';
import type { PaymentCompany } from '@trellis/workers/providers/payment-company';
import { createSandboxCarrier } from '@trellis/workers/providers/sandbox-carrier';
import { createSandboxPaymentCompany } from '@trellis/workers/providers/sandbox-payment-company';
import { bundleWorkflows, createWorker, type QueueName } from '@trellis/workers/worker';
import { inject } from 'vitest';
import { anOrder, freshDatabase } from './support.ts';

/** What a company does with a call; `call` counts them from 1. The call reaches the company when `real` is called. */
export type Twist = <T>(real: () => Promise<T>, call: number) => Promise<T>;
type Call = 'charge' | 'refund' | 'dispatch' | 'close';
type Twisted = <T>(real: () => Promise<T>) => Promise<T>;

export const hangs: Twist = () => new Promise(() => {});
export const commitsThenHangs: Twist = async (real) => {
  await real();
  return new Promise(() => {});
};
export const losesFirstAnswer: Twist = async (real, call) => {
  const answer = await real();
  if (call === 1) throw new Error('connection reset');
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
  return { before, after, reached: reached.promise, open: () => opened.resolve(), answered: answered.promise };
}

export type Shop = Awaited<ReturnType<typeof openShop>>;

export interface ShopOptions {
  /** Whose workers run from the start. */
  queues?: QueueName[];
  flakyCall?: () => Promise<void>;
}

export interface PlaceOptions extends Partial<WorkflowStartOptions> {
  /** Instead of the order. */
  args?: unknown[];
  twists?: Partial<Record<Call, Twist>>;
  /** Sent with the start. */
  signal?: string;
  client?: Client;
}

const log = createLogger('error');
const bundle = bundleWorkflows();

/** A shop has a Temporal server and a database of its own, so a test may judge all of both. */
export async function openShop({ queues = ['orders', 'shipping'], flakyCall }: ShopOptions = {}) {
  const path = inject('testServer');
  const env = await TestWorkflowEnvironment.createTimeSkipping(
    path === '' ? {} : { server: { executable: { type: 'existing-path', path } } },
  );
  const { url, db, drop } = await freshDatabase();
  const sandbox = openDatabase(url);
  const views = createOrderViews(db);
  const parcels = createParcelBook(sandbox);
  const attemptLog = createAttemptLog(createAttemptStore(db), log);
  const twists = new Map<string, Twisted>();
  const deps = {
    orders: createOrderStore(db),
    payments: createPaymentStore(db),
    shipments: createShipmentStore(db),
    ...twistedCompanies(
      twists,
      createSandboxPaymentCompany(createPaymentBook(sandbox)),
      createSandboxCarrier(parcels),
    ),
    onFailedAttempt: attemptLog.record,
    ...(flakyCall && { flakyCall }),
  };
  const activities = { ...createOrderActivities(deps), ...createShippingActivities(deps) };
  const stops = new Set<() => Promise<void>>();
  const placed: PlacedOrder[] = [];

  /** Starts workers; answers how to stop them. */
  async function work(...names: QueueName[]): Promise<() => Promise<void>> {
    const workflowBundle = await bundle;
    const { nativeConnection: connection } = env;
    const workers = await Promise.all(
      names.map((name) => createWorker(name, { connection, namespace: 'default', activities, workflowBundle })),
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
    work,
    attempts: createAttemptStore(db),
    /** A client to whom time passes as it does for everybody. */
    patient: new Client({ connection: env.connection }),

    /** Starts an order as any Temporal caller would. */
    async place(order: StartInput = anOrder(), options: PlaceOptions = {}): Promise<PlacedOrder> {
      const { args = [order], twists: own = {}, signal, client = env.client, ...rest } = options;
      for (const [call, twist] of Object.entries(own)) twists.set(`${call} ${order.order_id}`, counting(twist));
      const start = { workflowId: orderWorkflowId(order.order_id), taskQueue: ORDERS_QUEUE, args, ...rest };
      const handle = await (signal === undefined
        ? client.workflow.start(ORDER_WORKFLOW, start)
        : client.workflow.signalWithStart(ORDER_WORKFLOW, { ...start, signal }));
      const one = placedOrder(order, handle, views);
      placed.push(one);
      return one;
    },

    /** Places an order and approves it. */
    async approved(order?: StartInput, options?: PlaceOptions): Promise<PlacedOrder> {
      const one = await this.place(order, options);
      await one.update('approve');
      return one;
    },

    /** The companies' books on an order. */
    async books(orderId: string) {
      const charges = await sandbox.read((session) => session.select().from(sandboxCharges));
      return {
        charges: charges.filter((row) => row.orderId === orderId).map((row) => row.status),
        parcel: await parcels.find(orderId),
      };
    },

    /** What no order may leave behind: books that disagree, a workflow task that failed, a workflow that ended in an error. */
    async wrongs(): Promise<unknown[]> {
      const broken = await Promise.all(placed.splice(0).map(brokenTasks));
      return [...(await audit(db)), ...broken.flat()];
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

export type PlacedOrder = ReturnType<typeof placedOrder>;

function placedOrder(
  order: StartInput,
  handle: WorkflowHandle,
  { find, view }: ReturnType<typeof createOrderViews>,
) {
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
    update: (command: Command, args: unknown[] = [], updateId?: string): Promise<UpdateResult> =>
      handle.executeUpdate<UpdateResult, [unknown?]>(COMMAND_NAMES[command], {
        args: args as [unknown?],
        ...(updateId !== undefined && { updateId }),
      }),
    signal: (command: Command, ...args: unknown[]) => handle.signal(COMMAND_NAMES[command], ...args),
    /** Waits for the order's end, skipping the time nobody needs; answers the workflow's result. */
    end: (): Promise<unknown> => handle.result(),
    /** From start to close by the server's clock. */
    async lasted(): Promise<number> {
      const { startTime, closeTime } = await handle.describe();
      return (closeTime?.getTime() ?? Number.POSITIVE_INFINITY) - startTime.getTime();
    },
  };
}

async function brokenTasks({ id, handle }: PlacedOrder): Promise<string[]> {
  const { events } = await handle.fetchHistory();
  const failures = (events ?? []).map((event) => event.workflowTaskFailedEventAttributes?.failure?.message);
  const { status } = await handle.describe();
  return [
    ...failures.filter((message) => message !== undefined).map((message) => `${id}: workflow task failed: ${message}`),
    ...(status.name === 'COMPLETED' ? [] : [`${id}: the workflow is ${status.name}`]),
  ];
}

/** Why an update was refused. */
export async function refusal(update: Promise<UpdateResult>): Promise<{ code: unknown; details: unknown }> {
  const error = await update.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof WorkflowUpdateFailedError && error.cause instanceof ApplicationFailure))
    throw new Error('the update was not refused', { cause: error });
  return { code: error.cause.type, details: error.cause.details?.[0] };
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
