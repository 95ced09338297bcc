/** What an order costs: the product and the bare order of bare-order/ on the same servers, under the same load. */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { connectionOptions } from '@trellis/drizzle/mysql';
import { print, ReportedError } from '@trellis/local/options';
import { freePort } from '@trellis/local/stack/ports';
import { cpuOf, memoryOf, type Service, startProcess } from '@trellis/local/stack/processes';
import { type Stack, withStack } from '@trellis/local/stack/stack';
import { createConnection, type RowDataPacket } from 'mysql2/promise';
import { costsOf } from './cost.ts';
import { add, readProfiles, type Shares } from './cpu-profile.ts';

/** Orders that ship before the measured ones. */
const WARM_UP = 160;
const APPROVE_AFTER_MS = 800;
/** Orders that are sent one after the other. */
const ALONE = 40;
/** Between an order's review in SQL and its approval, when it is the only one: its workflow has then answered Temporal. */
const PAUSE_ALONE_MS = 100;
/** Orders whose histories are counted. */
const HISTORIES = 20;
const LOST_AFTER_MS = 60_000;
/** A program gives back the memory of its garbage after a while. */
const AT_REST_AFTER_MS = 5_000;
const MEMORY_EVERY_MS = 100;
/** The pauses between two readings of the orders' states. */
const READ_EVERY_MS = 20;
const READ_ALONE_EVERY_MS = 2;

const BARE = {
  worker: new URL('bare-order/worker.ts', import.meta.url),
  api: new URL('bare-order/api.ts', import.meta.url),
  workflows: new URL('bare-order/workflows.ts', import.meta.url),
};

/** The threads of JavaScript, and the profiler's own. */
const NOT_OTHER = /^(MainThread|WorkerThread|v8:Prof.*)$/;

interface Programs {
  worker: Service;
  api: Service;
  url: string;
}

/** One of the two that are compared. Both have a table `orders` with the columns `id` and `state`. */
export interface Side {
  name: string;
  /** The state of an order that waits for its approval. */
  review: string;
  database: string;
  /** Starts the programs anew, the worker with `env` on top of its environment. */
  start(env?: NodeJS.ProcessEnv): Promise<Programs>;
}

/** What one turn of a side has measured. Memory in MB, CPU time in milliseconds an order, other times in milliseconds. */
export interface Figures {
  ordersPerSecond: number;
  /** Orders a second of the first orders after the start of the programs, and of as many after these. */
  first: number;
  next: number;
  cpu: { worker: number; api: number; temporal: number; sql: number };
  approveToShipped: number;
  startAnswered: number;
  events: number;
  workflowTasks: number;
  memory: { worker: number; api: number };
  /** How many times a start was answered BUSY. */
  refusals: number;
  /** The share of the machine that other programs took meanwhile: with more than a few percent the times say little. */
  others: number;
}

/** An order that was sent and has shipped; times by `performance.now`. */
interface Shipped {
  orderId: string;
  shippedAt: number;
  startAnswered: number;
  approveToShipped: number;
  refusals: number;
}

interface Load {
  /** The load ends when so many have shipped; those that are then under way ship too. */
  orders: number;
  inFlight: number;
}

/** Starts a stack, and runs `use` with both sides on it, one at a time. `ours`: on top of `env` for our worker alone. */
export function withSides(
  env: NodeJS.ProcessEnv,
  ours: NodeJS.ProcessEnv,
  use: (sides: Side[], stack: Stack, folder: string) => Promise<void>,
): Promise<void> {
  return withStack({ env, say: print }, async (stack, folder) => {
    const { API_URL, DATABASE_URL, TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE } = stack.addresses;
    let running = stack.services.filter(({ name }) => name === 'worker' || name === 'api');
    const stop = () => Promise.all(running.map((program) => program.stop()));
    let starts = 0;
    const started = async (starting: () => Promise<Programs>): Promise<Programs> => {
      await stop();
      starts += 1;
      const programs = await starting();
      running = [programs.worker, programs.api];
      return programs;
    };

    const bundle = join(folder, 'bare-workflows.js');
    const workflowsPath = fileURLToPath(BARE.workflows);
    const { code } = await bundleWorkflowCode({ workflowsPath, logger: new DefaultLogger('WARN') });
    await writeFile(bundle, code);
    const database = `bare_${randomBytes(4).toString('hex')}`;
    const bareUrl = new URL(DATABASE_URL);
    bareUrl.pathname = `/${database}`;
    const addresses = { DATABASE_URL: bareUrl.href, TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE };
    const bareEnv = { ...process.env, ...env, ...addresses, TASK_QUEUE: database, BUNDLE: bundle };
    const startBare = (program: 'worker' | 'api', more?: NodeJS.ProcessEnv) =>
      startProcess(folder, {
        name: `bare-${program}-${starts}`,
        command: process.execPath,
        args: [fileURLToPath(BARE[program])],
        env: { ...bareEnv, ...more },
        ipc: true,
      });

    const sql = await createConnection(connectionOptions(DATABASE_URL));
    await sql.query(`CREATE DATABASE ${database}`);
    try {
      await use(
        [
          {
            name: 'ours',
            review: 'awaiting_approval',
            database: DATABASE_URL,
            start: (workerEnv) =>
              started(async () => {
                const worker = await stack.startWorker(`worker-${starts}`, { ...ours, ...workerEnv });
                return { worker, api: await stack.startAgain('api'), url: API_URL };
              }),
          },
          {
            name: 'bare order',
            review: 'validated',
            database: bareUrl.href,
            start: (workerEnv) =>
              started(async () => {
                const port = await freePort();
                const worker = await startBare('worker', workerEnv);
                return { worker, api: await startBare('api', { PORT: `${port}` }), url: `http://127.0.0.1:${port}` };
              }),
          },
        ],
        stack,
        folder,
      );
    } finally {
      await stop();
      await sql.query(`DROP DATABASE ${database}`);
      await sql.end();
    }
  });
}

/** One turn of a side: starts its programs, ships orders without faults, and measures. */
export async function measureOrders(side: Side, stack: Stack, { orders, inFlight }: Load): Promise<Figures> {
  const { worker, api, url } = await side.start();
  const [temporal, sql] = ['temporal', 'sql'].map((name) => stack.services.find((service) => service.name === name));
  const processes = { worker, api, temporal, sql };
  const cpu = () => mapValues(processes, (service) => (service ? cpuOf(service.pid) : Number.NaN));
  const memory = { worker: 0, api: 0 };
  const sampling = setInterval(() => {
    memory.worker = Math.max(memory.worker, memoryOf(worker.pid));
    memory.api = Math.max(memory.api, memoryOf(api.pid));
  }, MEMORY_EVERY_MS);
  const states = await readStates(side.database);
  try {
    const approval = () => sleep(APPROVE_AFTER_MS);
    const beganAt = performance.now();
    const first = await ship(url, states, { orders: WARM_UP, inFlight, approval });
    const before = cpu();
    const othersBefore = cpuOfOthers(before);
    const warmAt = performance.now();
    const warm = await ship(url, states, { orders, inFlight, approval });
    const after = cpu();
    const others = (cpuOfOthers(after) - othersBefore) / (performance.now() - warmAt) / availableParallelism();
    const shippedAt = (n: number) => warm[n - 1]?.shippedAt ?? Number.NaN;
    const next = Math.min(WARM_UP, orders);

    states.every(READ_ALONE_EVERY_MS);
    const alone = await ship(url, states, {
      orders: ALONE,
      inFlight: 1,
      approval: async (orderId) => {
        await states.reached(orderId, side.review);
        await sleep(PAUSE_ALONE_MS);
      },
    });
    const sample = warm.slice(0, HISTORIES).map(({ orderId }) => ({ orderId, attempts: 1 }));
    const costs = await costsOf(stack.addresses, sample);
    return {
      // Without the beginning, in which no order can have shipped yet.
      ordersPerSecond: (1000 * (orders - inFlight)) / (shippedAt(orders) - shippedAt(inFlight)),
      first: (1000 * WARM_UP) / ((first[WARM_UP - 1]?.shippedAt ?? Number.NaN) - beganAt),
      next: (1000 * next) / (shippedAt(next) - warmAt),
      cpu: mapValues(after, (used, name) => (used - before[name]) / warm.length),
      approveToShipped: median(alone.map((order) => order.approveToShipped)),
      startAnswered: median(alone.map((order) => order.startAnswered)),
      events: median(costs.map((cost) => cost.events)),
      workflowTasks: median(costs.map((cost) => cost.workflowTasks)),
      memory,
      refusals: [...first, ...warm, ...alone].reduce((sum, order) => sum + order.refusals, 0),
      others,
    };
  } finally {
    clearInterval(sampling);
    await states.close();
  }
}

/** The CPU time in milliseconds that the machine has spent so far on other programs than this one and those of `known`. */
function cpuOfOthers(known: Record<string, number>): number {
  const busy = cpus().reduce((sum, { times: { user, nice, sys, irq } }) => sum + user + nice + sys + irq, 0);
  const { user, system } = process.cpuUsage();
  return Object.values(known).reduce((left, used) => left - used, busy - (user + system) / 1000);
}

/** Starts a side's programs, warms them up, and parks orders in review. Returns by how many MB the worker has grown meanwhile. */
export async function measureParked(side: Side, { orders, inFlight }: Load): Promise<number> {
  const { worker, url } = await side.start();
  const states = await readStates(side.database);
  try {
    await ship(url, states, { orders: WARM_UP, inFlight, approval: () => sleep(APPROVE_AFTER_MS) });
    await sleep(AT_REST_AFTER_MS);
    const before = memoryOf(worker.pid);
    let left = orders;
    await inLanes(inFlight, async () => {
      while (left > 0) {
        left -= 1;
        const orderId = newOrderId();
        await start(url, orderId);
        await states.reached(orderId, side.review);
      }
    });
    await sleep(AT_REST_AFTER_MS);
    return memoryOf(worker.pid) - before;
  } finally {
    await states.close();
  }
}

/**
 * What a side's worker spends its CPU time on once it is warm, in milliseconds an order: for each group of functions of the main thread and
 * of the workflow threads, and for the other threads. Profiling itself makes the worker slower.
 */
export async function profileWorker(side: Side, folder: string, { orders, inFlight }: Load): Promise<Shares> {
  const profiles = join(folder, `profiles of ${side.name}`.replaceAll(' ', '-'));
  const { worker, url } = await side.start({ NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profiles}` });
  const states = await readStates(side.database);
  const now = () => Number(process.hrtime.bigint() / 1000n);
  try {
    const approval = () => sleep(APPROVE_AFTER_MS);
    await ship(url, states, { orders: WARM_UP, inFlight, approval });
    const [from, before] = [now(), threadsOf(worker.pid)];
    const { length } = await ship(url, states, { orders, inFlight, approval });
    const [to, after] = [now(), threadsOf(worker.pid)];
    await worker.stop();

    const used = (thread: string) => ((after.get(thread) ?? 0) - (before.get(thread) ?? 0)) / length;
    const profiled = await readProfiles(profiles, from, to);
    const spent: Shares = {};
    for (const [name, cpu, threads] of [
      ['main thread', used('MainThread'), profiled.slice(0, 1)],
      ['workflow threads', used('WorkerThread'), profiled.slice(1)],
    ] as const) {
      add(spent, name, cpu);
      const busy = threads.reduce((sum, thread) => sum + thread.busy, 0);
      const shares: Shares = {};
      for (const thread of threads)
        for (const [group, { self, total }] of Object.entries(thread.shares))
          add(shares, group, (self * thread.busy) / busy, (total * thread.busy) / busy);
      for (const [group, { self, total }] of Object.entries(shares).toSorted(([, a], [, b]) => b.self - a.self))
        add(spent, `${name}: ${group}`, self * cpu, total * cpu);
    }
    for (const thread of after.keys()) if (!NOT_OTHER.test(thread)) add(spent, `threads: ${thread}`, used(thread));
    return spent;
  } finally {
    await states.close();
  }
}

/** The CPU time in milliseconds of a process's threads by their name, and that of the threads that have ended. Linux only. */
function threadsOf(pid: number): Map<string, number> {
  const used = new Map([['that have ended', cpuOf(pid)]]);
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const name = readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8').trim();
    const cpu = cpuOf(pid, Number(thread));
    used.set(name, (used.get(name) ?? 0) + cpu);
    used.set('that have ended', (used.get('that have ended') ?? 0) - cpu);
  }
  return used;
}

/** Returns the shipped orders in the order in which they shipped: `orders` and those under way at the end. */
async function ship(
  url: string,
  states: States,
  { orders, inFlight, approval }: Load & { approval: (orderId: string) => Promise<void> },
): Promise<Shipped[]> {
  const shipped: Shipped[] = [];
  await inLanes(inFlight, async () => {
    while (shipped.length < orders) {
      const orderId = newOrderId();
      const { took: startAnswered, refusals } = await start(url, orderId);
      await approval(orderId);
      const approvedAt = performance.now();
      const [shippedAt] = await Promise.all([
        states.reached(orderId, 'shipped'),
        post(`${url}/orders/${orderId}/signals/approve`, {}),
      ]);
      shipped.push({ orderId, shippedAt, startAnswered, approveToShipped: shippedAt - approvedAt, refusals });
    }
  });
  return shipped;
}

const inLanes = (count: number, lane: () => Promise<void>) => Promise.all(Array.from({ length: count }, lane));

const newOrderId = () => `bench-${randomBytes(8).toString('hex')}`;

const start = (url: string, orderId: string) =>
  post(`${url}/orders/${orderId}/start`, {
    payment_id: `pay-${orderId}`,
    address: { line1: '1 Main St', city: 'Chicago' },
    items: [{ sku: 'ABC', qty: 1 }],
  });

/** Repeats a request that is answered BUSY; `took`: of the request that was accepted. Throws when it is answered otherwise. */
async function post(url: string, body: object): Promise<{ took: number; refusals: number }> {
  const headers = { 'content-type': 'application/json' };
  for (let refusals = 0; ; refusals += 1) {
    const sentAt = performance.now();
    const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
    const answer = await response.text();
    if (response.ok) return { took: performance.now() - sentAt, refusals };
    if (response.status !== 429) throw new Error(`${url} answered ${response.status}: ${answer}`);
    await sleep(1000 * Number(response.headers.get('retry-after')));
  }
}

type States = Awaited<ReturnType<typeof readStates>>;

interface AwaitedOrder {
  state: string;
  since: number;
  resolve(at: number): void;
  reject(error: unknown): void;
}

/** Tells when orders reach a state, by one statement for all of them: it costs both sides the same and next to nothing. */
async function readStates(database: string) {
  const sql = await createConnection(connectionOptions(database));
  const awaited = new Map<string, AwaitedOrder>();
  let pauseMs = READ_EVERY_MS;
  let closed = false;

  async function read(): Promise<void> {
    for (const [orderId, { state, since }] of awaited) {
      if (performance.now() - since > LOST_AFTER_MS)
        throw new Error(`${orderId} was not ${state} within ${LOST_AFTER_MS / 1000} s`);
    }
    const ids = [...awaited.keys()];
    if (ids.length === 0) return;
    const [rows] = await sql.query<RowDataPacket[]>('SELECT id, state FROM orders WHERE id IN (?)', [ids]);
    for (const { id, state } of rows) {
      const order = awaited.get(id);
      if (order && order.state !== state && isTerminal(state))
        throw new ReportedError(
          `${id} ended as ${state}, not ${order.state}: on a busy machine orders miss their deadlines`,
        );
      if (order?.state !== state) continue;
      awaited.delete(id);
      order?.resolve(performance.now());
    }
  }
  const reading = (async () => {
    for (; !closed; await sleep(pauseMs))
      await read().catch((error) => {
        for (const { reject } of awaited.values()) reject(error);
      });
  })();

  return {
    /** Resolves with the time by `performance.now`. Rejects when an order has not reached its state in time, or SQL fails. */
    reached: (orderId: string, state: string) =>
      new Promise<number>((resolve, reject) => {
        awaited.set(orderId, { state, since: performance.now(), resolve, reject });
      }),
    /** Sets the pause between two readings. */
    every(milliseconds: number): void {
      pauseMs = milliseconds;
    },
    async close(): Promise<void> {
      closed = true;
      await reading;
      await sql.end();
    },
  };
}

export const median = (values: number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

function mapValues<K extends string, V, R>(record: Record<K, V>, to: (value: V, key: K) => R): Record<K, R> {
  return Object.fromEntries(Object.entries<V>(record).map(([key, value]) => [key, to(value, key as K)])) as Record<
    K,
    R
  >;
}
