/** A testbed: the real workflows, activities and stores; faults are injected only into calls to the payment company and the carrier. */
import { setImmediate } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import {
  type Client,
  type WorkflowHandle,
  type WorkflowStartOptions,
  WorkflowUpdateFailedError,
} from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker, type WorkflowBundle } from '@temporalio/worker';
import { createApp } from '@trellis/api/http/app';
import type { TemporalPort } from '@trellis/api/temporal/port';
import { createApprovalCheck, type SignApproval } from '@trellis/contracts/approval-proof';
import { COMMANDS, type Command, type CommandAnswer } from '@trellis/contracts/commands';
import { createLogger } from '@trellis/contracts/config/logger';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import type { StartInput } from '@trellis/contracts/order';
import type { WorkflowStatus } from '@trellis/contracts/order-status';
import { createEncryption, type Encryption, type EncryptionConfig } from '@trellis/contracts/payload-codec';
import type { PolicyName } from '@trellis/contracts/policy';
import { ORDER_WORKFLOW, ORDERS_QUEUE, orderWorkflowId, STATUS_QUERY } from '@trellis/contracts/temporal';
import { createAttemptStore } from '@trellis/drizzle/attempts';
import { createCapacityStore } from '@trellis/drizzle/capacity';
import { openDatabase } from '@trellis/drizzle/client';
import type { Database } from '@trellis/drizzle/database';
import { createErasureStore } from '@trellis/drizzle/erasure';
import { createOpenOrders } from '@trellis/drizzle/open-orders';
import { createOrderKeyStore } from '@trellis/drizzle/order-keys';
import { createOrderViews } from '@trellis/drizzle/order-views';
import { createOrderStore } from '@trellis/drizzle/orders';
import { createPaymentStore } from '@trellis/drizzle/payments';
import { createPriceStore } from '@trellis/drizzle/prices';
import { audit } from '@trellis/drizzle/sandbox/audit';
import { createParcelBook, createPaymentBook } from '@trellis/drizzle/sandbox/books';
import { sandboxCharges } from '@trellis/drizzle/sandbox/schema';
import { createShipmentStore } from '@trellis/drizzle/shipments';
import { withAllEvents } from '@trellis/local/shopper';
import { accountsOn } from '@trellis/local/stack/accounts';
import { createAttemptLog } from '@trellis/workers/activities/attempt-log';
import { createActivities } from '@trellis/workers/activities/index';
import { createWorker, dataConverterWith, type QueueName } from '@trellis/workers/create-worker';
import { createRuns } from '@trellis/workers/jobs/runs';
import type { Carrier } from '@trellis/workers/providers/carrier';
import type { PaymentCompany } from '@trellis/workers/providers/payment-company';
import { createSandboxCarrier } from '@trellis/workers/providers/sandbox/carrier';
import { createSandboxPaymentCompany } from '@trellis/workers/providers/sandbox/payment-company';
import { createServerClock } from '@trellis/workers/server-clock';
import { installTemporalRuntime } from '@trellis/workers/temporal-runtime';
import { workflowBundle } from '@trellis/workers/workflow-bundle';
import { eq } from 'drizzle-orm';
import { afterAll, afterEach, expect, onTestFinished } from 'vitest';
import { AUTH_OFF, anOrder, eventually, freshDatabase, freshId, trailProblems } from './fixtures.ts';
import { need } from './servers.ts';

/** Replaces a call of the payment company or the carrier: `real` makes the call, `call` is its number for this order, from 1. */
export type Fault = <T>(real: () => Promise<T>, call: number) => Promise<T>;
export type Call = 'charge' | 'refund' | 'dispatch' | 'close';
type CountedFault = <T>(real: () => Promise<T>) => Promise<T>;

export const hangs: Fault = () => new Promise(() => {});
export const commitsThenHangs: Fault = async (real) => {
  await real();
  return new Promise(() => {});
};
export const losesFirstAnswer: Fault = async (real, call) => {
  const answer = await real();
  if (call === 1) throw Object.assign(new Error('connection reset'), { code: 'ECONNRESET' });
  return answer;
};
export const onlyFirst =
  (fault: Fault): Fault =>
  (real, call) =>
    call === 1 ? fault(real, call) : real();
/** Concerns the calls of the order's first shipping attempt, which may make several. */
export const inFirstAttempt =
  (fault: Fault): Fault =>
  (real, call) =>
    Context.current().info.workflowExecution?.workflowId.endsWith('-1') ? fault(real, call) : real();
export const failsTwice: Fault = async (real, call) => {
  if (call <= 2) throw new Error('connection refused');
  return real();
};

/**
 * Faults that hold a call until `open`: `before` it reaches the company, or `after` the company has carried it out and
 * before its answer. `reached` resolves when a call is held, `answered` with the answer of a call that was let through.
 */
export function gate() {
  const [reached, opened, answered] = [
    Promise.withResolvers<void>(),
    Promise.withResolvers<void>(),
    Promise.withResolvers<unknown>(),
  ];
  const before: Fault = async (real) => {
    reached.resolve();
    await opened.promise;
    const answer = await real();
    answered.resolve(answer);
    return answer;
  };
  const after: Fault = async (real) => {
    const answer = await real();
    reached.resolve();
    await opened.promise;
    answered.resolve(answer);
    return answer;
  };
  /** As `after`, but only for the first call. */
  const afterFirst: Fault = (real, call) => (call === 1 ? after(real, call) : real());
  return {
    before,
    after,
    afterFirst,
    reached: reached.promise,
    open: () => opened.resolve(),
    answered: answered.promise,
  };
}

export type Testbed = Awaited<ReturnType<typeof openTestbed>>;

export interface TestbedOptions {
  /** The queues whose workers run from the start: by default both. */
  queues?: QueueName[];
  flakyCall?: () => Promise<void>;
  /** Only approvals that one of these keys has signed are charged. */
  approvalKeys?: string[];
  /** What the workers encrypt with, until `encryptWith` says otherwise. */
  encryption?: EncryptionConfig;
  /** False: every workflow task replays the whole history. Workers can then be replaced on the skipping server too. Default: true. */
  cacheWorkflows?: boolean;
  /**
   * `skipping` (default): the time-skipping server, which moves its clock ahead while a test waits for an order's end. It
   * stops skipping once a workflow has ended while one of its activities hangs, does not report a child's termination to its
   * parent, and never releases a stopped worker's sticky queue. `real`: the dev server.
   */
  clock?: 'skipping' | 'real';
}

export interface PlaceOptions extends Partial<WorkflowStartOptions> {
  /** Instead of the order. */
  args?: unknown[];
  faults?: Partial<Record<Call, Fault>>;
  /** Sent with the start. */
  signal?: string;
  signalArgs?: unknown[];
  client?: Client;
}

export const log = createLogger('error');
installTemporalRuntime(log);
const bundle = workflowBundle();

/** Opens a testbed with a new database and a Temporal server or namespace of its own, so that a test can check all their contents. */
export async function openTestbed(options: TestbedOptions = {}) {
  const {
    queues = ['orders', 'shipping'],
    flakyCall,
    approvalKeys,
    encryption: firstEncryption,
    cacheWorkflows = true,
    clock = 'skipping',
  } = options;
  const env = await (clock === 'skipping' ? skippingServer() : realServer());
  const namespace = env.namespace ?? 'default';
  const { url, drop } = await freshDatabase();
  const accounts = await accountsOn(url);
  const plain = openDatabase(accounts.worker);
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
  const sandbox = openDatabase(accounts.worker);
  const encryptionWith = (config: EncryptionConfig) =>
    createEncryption(config, createOrderKeyStore(db), { makesKeys: true });
  let encryption = firstEncryption && encryptionWith(firstEncryption);
  const views = createOrderViews(db);
  const parcels = createParcelBook(sandbox);
  const attemptStore = createAttemptStore(db);
  const attemptLog = createAttemptLog(attemptStore, log);
  const faults = new Map<string, CountedFault>();
  const deps = {
    openOrders: createOpenOrders(db),
    orders: createOrderStore(db),
    payments: createPaymentStore(db),
    prices: createPriceStore(db),
    shipments: createShipmentStore(db),
    ...companiesWithFaults(
      faults,
      createSandboxPaymentCompany(createPaymentBook(sandbox)),
      createSandboxCarrier(parcels),
    ),
    clock: createServerClock(),
    onFailedAttempt: attemptLog.record,
    ...createRuns(createTemporalClient(env.connection, namespace)),
    erasure: createErasureStore(db),
    get hash() {
      return encryption?.hash;
    },
    ...(flakyCall && { flakyCall }),
    ...(approvalKeys && { checkApproval: createApprovalCheck(approvalKeys) }),
  };
  const activities = createActivities(deps);
  const stops = new Set<() => Promise<void>>();
  const placed: PlacedOrder[] = [];

  /** Starts workers on the queues; resolves with the function that stops them. */
  const startWorkers = async (...names: QueueName[]) => startWorkersOf(await bundle, ...names);

  /** Starts workers with other workflow code. */
  async function startWorkersOf(workflowBundle: WorkflowBundle, ...names: QueueName[]): Promise<() => Promise<void>> {
    const { nativeConnection: connection } = env;
    const cache = cacheWorkflows ? {} : { maxCachedWorkflows: 0 };
    const workers = await Promise.all(
      names.map((name) =>
        createWorker(name, { connection, namespace, activities, workflowBundle, encryption, ...cache }),
      ),
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
  await startWorkers(...queues);

  return {
    env,
    db,
    databaseUrl: url,
    startWorkers,
    startWorkersOf,
    /** Changes what the workers that are started from now on encrypt with. */
    encryptWith: (config: EncryptionConfig) => {
      encryption = encryptionWith(config);
    },
    /** A client that does not skip time while it waits for a result. */
    realTimeClient: createTemporalClient(env.connection, namespace),
    /** The same with the encryption that the workers had at first, as an API has it. */
    encryptingClient: createTemporalClient(env.connection, namespace, encryption),
    /** Makes the order's key, as an API does before it starts the order. */
    prepare: async (orderId: string) => encryption?.prepare(orderId),

    /** Starts an order as a Temporal caller does, without the API. */
    async place(order: StartInput = anOrder(), options: PlaceOptions = {}): Promise<PlacedOrder> {
      const { args = [order], faults: ofOrder = {}, signal, signalArgs = [], client = env.client, ...rest } = options;
      for (const [call, fault] of Object.entries(ofOrder)) faults.set(`${call} ${order.order_id}`, counting(fault));
      const start = { workflowId: orderWorkflowId(order.order_id), taskQueue: ORDERS_QUEUE, args, ...rest };
      const handle = await (signal === undefined
        ? client.workflow.start(ORDER_WORKFLOW, start)
        : client.workflow.signalWithStart(ORDER_WORKFLOW, { ...start, signal, signalArgs }));
      const firstExecutionRunId = 'firstExecutionRunId' in handle ? handle.firstExecutionRunId : handle.signaledRunId;
      const started = placedOrder(order, Object.assign(handle, { firstExecutionRunId }), views);
      placed.push(started);
      return started;
    },

    /** Starts an order whose first signal, sent with the start, is its approval. */
    placeApproved(order?: StartInput, options?: PlaceOptions): Promise<PlacedOrder> {
      return this.place(order, { signal: 'approve', ...options });
    },

    /** Waits for the end of the transactions that have begun. */
    async transactionsSettled(): Promise<void> {
      await setImmediate();
      await Promise.allSettled(transactions);
    },

    /** The order's rows in `attempts`: which activity failed, and with which error. */
    async failedAttempts(orderId: string): Promise<{ step: string; error: string }[]> {
      await attemptLog.flush();
      const { recent } = await views.status(orderId, 100);
      return recent.errors.map(({ step, error }) => ({ step, error }));
    },

    /** The order in the sandbox companies' books: the status of each charge, and the parcel. */
    async books(orderId: string) {
      const ofOrder = eq(sandboxCharges.order_id, orderId);
      const charges = await sandbox.run((session) => session.select().from(sandboxCharges).where(ofOrder));
      return {
        charges: charges.map((row) => row.status),
        parcel: await parcels.find(orderId),
      };
    },

    /**
     * The violations by orders placed since the last call: the audit's findings, broken chains of events, failed workflow tasks, histories that do
     * not replay, workflows that did not end completed.
     */
    async violations(): Promise<unknown[]> {
      const outcomes = await Promise.all(placed.splice(0).map(outcomeOf));
      const broken = [...(await audit(db)), ...(await trailProblems(db))];
      return [...broken, ...outcomes.flatMap(workflowFailures), ...(await replayFailures(outcomes, encryption))];
    },

    async close() {
      await Promise.all([...stops].map((stop) => stop()));
      await attemptLog.flush();
      await env.teardown();
      await Promise.all([plain.close(), sandbox.close()]);
      await accounts.drop();
      await drop();
    },
  };
}

async function skippingServer(): Promise<TestWorkflowEnvironment> {
  const { testServer: path } = await need('testServer');
  return TestWorkflowEnvironment.createTimeSkipping(
    path === '' ? {} : { server: { executable: { type: 'existing-path', path } } },
  );
}

async function realServer(): Promise<TestWorkflowEnvironment> {
  const { TEMPORAL_ADDRESS } = await need('temporal');
  const namespace = freshId('test');
  const env = await TestWorkflowEnvironment.createFromExistingServer({
    address: TEMPORAL_ADDRESS,
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

/** A testbed for all tests of a file; each test ends with a check for violations. */
export async function sharedTestbed(): Promise<Testbed> {
  const bed = await openTestbed();
  afterEach(async () => expect(await bed.violations()).toEqual([]));
  afterAll(() => bed.close());
  return bed;
}

/** A testbed for one test, which may stop its workers or break its database. */
export async function ownTestbed(options: TestbedOptions): Promise<Testbed> {
  const bed = await openTestbed(options);
  onTestFinished(() => bed.close());
  return bed;
}

export type PlacedOrder = ReturnType<typeof placedOrder>;

type StartedHandle = WorkflowHandle & { firstExecutionRunId: string };

/** The API on a testbed's database and a port to its Temporal server. `key`: the Idempotency-Key. */
export function apiOn(
  { db }: Testbed,
  temporal: TemporalPort,
  more: { signApproval?: SignApproval; encryption?: Encryption | undefined; policy?: PolicyName } = {},
) {
  const app = createApp({
    temporal,
    views: createOrderViews(db),
    capacity: createCapacityStore(db),
    prices: createPriceStore(db),
    pingDatabase: db.ping,
    policy: 'exercise',
    auth: AUTH_OFF,
    ...more,
    onFailure: () => {},
  });
  return {
    get: async (path: string) => app.request(path),
    post: async (path: string, body: object, key = freshId()) => {
      const headers = { 'content-type': 'application/json', 'idempotency-key': key };
      return app.request(path, { method: 'POST', headers, body: JSON.stringify(body) });
    },
  };
}

function placedOrder(order: StartInput, handle: StartedHandle, { find, view }: ReturnType<typeof createOrderViews>) {
  const id = order.order_id;
  const whole = () =>
    withAllEvents(async (after) => {
      const seen = await view(id, after);
      if (!seen) throw new Error(`order ${id} has no row`);
      return seen;
    });
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
    /** The order with all its events. */
    view: whole,
    events: async () => (await whole()).events.map((event) => event.type),
    update: (command: Command, args: unknown[] = [], updateId?: string): Promise<CommandAnswer> =>
      handle.executeUpdate<CommandAnswer, [unknown, ...unknown[]]>(COMMANDS[command].temporal, {
        args: args as [unknown],
        ...(updateId !== undefined && { updateId }),
      }),
    signal: (command: Command, ...args: unknown[]) => handle.signal(COMMANDS[command].temporal, ...args),
    /** Sends a signal whose argument is `json` as it is, valid or not. */
    signalRaw: (command: Command, json: string) =>
      handle.client.workflowService.signalWorkflowExecution({
        namespace: handle.client.options.namespace,
        workflowExecution: { workflowId: handle.workflowId },
        signalName: COMMANDS[command].temporal,
        input: { payloads: [{ metadata: { encoding: Buffer.from('json/plain') }, data: Buffer.from(json) }] },
      }),
    /** The histories of the order's runs, each of which the next one continues. */
    runs: () => runsOf(handle),
    /** Waits for the order's end, skipping time where the server can; resolves with the workflow's result. */
    end: (): Promise<unknown> => handle.result(),
    /** Milliseconds from the run's start to its close, by the server's clock. */
    async duration(): Promise<number> {
      const { startTime, closeTime } = await handle.describe();
      return (closeTime?.getTime() ?? Number.POSITIVE_INFINITY) - startTime.getTime();
    },
  };
}

export type HistoryEvent = NonNullable<Awaited<ReturnType<WorkflowHandle['fetchHistory']>>['events']>[number];

/** The events of each run of a chain, from the run that was started. */
async function runsOf({ client, workflowId, firstExecutionRunId }: StartedHandle) {
  const runs: { runId: string; events: HistoryEvent[] }[] = [];
  for (let runId: string | null | undefined = firstExecutionRunId; runId; ) {
    const events = await eventsOf(client.getHandle(workflowId, runId), runId);
    runs.push({ runId, events });
    runId = events.at(-1)?.workflowExecutionContinuedAsNewEventAttributes?.newExecutionRunId;
  }
  return runs;
}

/** An answer of the server may have 4 MB: large events are fetched one by one. */
async function eventsOf(handle: WorkflowHandle, runId: string): Promise<HistoryEvent[]> {
  const { client, workflowId } = handle;
  const { historySize } = await handle.describe();
  const events: HistoryEvent[] = [];
  for (let nextPageToken: Uint8Array | undefined; ; ) {
    const page = await client.workflowService.getWorkflowExecutionHistory({
      namespace: client.options.namespace,
      execution: { workflowId, runId },
      maximumPageSize: (historySize ?? 0) > 3_000_000 ? 1 : 1_000,
      ...(nextPageToken && { nextPageToken }),
    });
    events.push(...(page.history?.events ?? []));
    if (!page.nextPageToken?.length) return events;
    nextPageToken = page.nextPageToken;
  }
}

type Outcome = Awaited<ReturnType<typeof outcomeOf>>;

async function outcomeOf({ handle }: PlacedOrder) {
  const [runs, { status }] = await Promise.all([runsOf(handle), handle.describe()]);
  return { workflowId: handle.workflowId, runs, status: status.name };
}

/** Failures of workflow tasks that are redone: a signal arrived while the run ended or was continued, or many during a local activity (ended-tasks.ts). */
const REDONE = ['UnhandledCommand', 'the server ended a workflow task during a local activity'];

function workflowFailures({ workflowId, runs, status }: Outcome): string[] {
  const failures = runs.flatMap(({ events }) =>
    events.map((event) => event.workflowTaskFailedEventAttributes?.failure?.message),
  );
  return [
    ...failures
      .filter((message) => typeof message === 'string' && !REDONE.includes(message))
      .map((message) => `${workflowId}: workflow task failed: ${message}`),
    ...(status === 'COMPLETED' ? [] : [`${workflowId}: the workflow is ${status}`]),
  ];
}

async function replayFailures(outcomes: Outcome[], encryption: Encryption | undefined): Promise<string[]> {
  const failures: string[] = [];
  const histories = outcomes.flatMap(({ workflowId, runs }) =>
    runs.map(({ events }) => ({ workflowId, history: { events } })),
  );
  const worker = { workflowBundle: await bundle, dataConverter: dataConverterWith(encryption) };
  for await (const { workflowId, error } of Worker.runReplayHistories(worker, histories))
    if (error) failures.push(`${workflowId}: does not replay: ${error.message}`);
  return failures;
}

/** Waits for the step `awaiting_approval`, which one query does not: it may be answered while the validation runs. */
export const awaitingApproval = (order: PlacedOrder) =>
  eventually(async () => (await order.status()).step === 'awaiting_approval');

/**
 * Fills the history of the order's run with signals until another run has continued it: with few large ones, which is quicker, or with
 * many small ones where the server counts no bytes or the history is kept in a file. Sends small ones only while no workflow task runs:
 * Temporal rejects a continuation when a signal arrives during its task, and the run then tries again only after hundreds of events.
 */
export async function fillHistory(
  { handle }: { handle: WorkflowHandle },
  signals: 'few large' | 'many small' = 'few large',
): Promise<void> {
  const { runId } = await handle.describe();
  const continued = async () => (await handle.describe()).runId !== runId;
  if (signals === 'few large') {
    for (let sent = 0; sent < 4; sent += 1) await handle.signal('no_such_signal', 'x'.repeat(1_900_000));
    await eventually(continued);
    return;
  }
  await eventually(async () => {
    if (await continued()) return true;
    const events = (await handle.fetchHistory()).events ?? [];
    const last = events.at(-1);
    const taskIsPending = last?.workflowExecutionSignaledEventAttributes || last?.workflowTaskScheduledEventAttributes;
    if (taskIsPending || last?.workflowTaskStartedEventAttributes) return false;
    // Few near the limit, so that they don't go far beyond it; many before, as a worker may replay everything at each task.
    const count = events.length < 800 ? 100 : 20;
    for (let sent = 0; sent < count; sent += 1) await handle.signal('no_such_signal', 'x');
    return false;
  });
}

/** Waits for an update that must be refused; resolves with the code and details of the refusal. */
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

function counting(fault: Fault): CountedFault {
  let calls = 0;
  return (real) => {
    calls += 1;
    return fault(real, calls);
  };
}

function companiesWithFaults(faults: Map<string, CountedFault>, payments: PaymentCompany, parcels: Carrier) {
  const via = <T>(call: Call, orderId: string, real: () => Promise<T>): Promise<T> => {
    const fault = faults.get(`${call} ${orderId}`);
    return fault ? fault(real) : real();
  };
  const paymentCompany: PaymentCompany = {
    charge: (payment) => via('charge', payment.order_id, () => payments.charge(payment)),
    refund: (payment) => via('refund', payment.order_id, () => payments.refund(payment)),
  };
  const carrier: Carrier = {
    dispatch: (orderId, address) => via('dispatch', orderId, () => parcels.dispatch(orderId, address)),
    close: (orderId) => via('close', orderId, () => parcels.close(orderId)),
    forget: parcels.forget,
  };
  return { paymentCompany, carrier };
}
