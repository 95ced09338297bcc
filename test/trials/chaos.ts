/** `npm run chaos`: orders under load while everything they depend on fails in turn, and a check of each order's end. */
import { createHash, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createOrdersClient } from '@trellis/client';
import type { Command } from '@trellis/contracts/commands';
import type { StartInput } from '@trellis/contracts/order';
import { OPEN_STATES } from '@trellis/contracts/states-and-steps';
import { violationsIn } from '@trellis/local/audit';
import { count, positive, print, script } from '@trellis/local/options';
import { type Answer, type CommandInput, createShopper } from '@trellis/local/shopper';
import { throwAwayFolder } from '@trellis/local/stack/folder';
import { memoryOf } from '@trellis/local/stack/processes';
import { startStack } from '@trellis/local/stack/stack';
import Table from 'cli-table3';
import { buildId, prepareFaults } from './faults.ts';
import { type Flood, floodOrder } from './flood.ts';
import { brokenGuarantees } from './guarantees.ts';
import { type Replays, replayAll } from './replays.ts';
import { openSqlProxy, type SqlProxy } from './sql-proxy.ts';

/** An order that was sent, and the answers to it. */
interface SentOrder {
  order: StartInput;
  /** False when the start got no answer; the order may exist all the same. */
  accepted: boolean;
  answers: Answer[];
}

interface InjectedFault {
  fault: string;
  /** Milliseconds from the fault's end until an order shipped again; undefined when no order was left to ship. */
  recovery: number | undefined;
}

const DRAINED_WITHIN_MS = 60_000;
/** Time limit of a run after its load: the last fault, the drain, and the check of every order. */
const CHECKED_WITHIN_MS = 600_000;
/** Added for each order, whose history is replayed. */
const CHECKED_WITHIN_MS_PER_ORDER = 60;
/** How long an order is flooded with commands. */
const FLOOD_MS = 8_000;
/**
 * The events of a history, without its signals: up to 10,000 of those reach a run while no worker takes its tasks. A longer history
 * takes a worker that has not seen the order longer to replay than a workflow task may take.
 */
const MAX_EVENTS = 3_000;
/** How long a call is repeated while the API is down. */
const RETRY_FOR_MS = 60_000;
/** A request that takes longer is repeated. */
const CALL_TIMEOUT_MS = 6_000;
/** Pause before the next fault, after the recovery from the last one. */
const PAUSE_MS = 1_000;
/** Limit of each process's memory in megabytes. Processes are restarted often here, so slow leaks don't show. */
const MEMORY_MB: Record<string, number> = { worker: 1_500, api: 600, sql: 500, temporal: 2_500 };
const BOSTON = { line1: '2 Birch', city: 'Boston' };
const CHICAGO = { line1: '1 Main St', city: 'Chicago' };

const {
  orders,
  minutes,
  seed = randomUUID().slice(0, 8),
} = script('npm run chaos', 'Send orders while servers, worker and API fail in turn, and check how every order ends.')
  .option('--orders <count>', 'orders in all', count, 1000)
  .option('--minutes <number>', 'minutes over which the orders are spread', positive, 5)
  .option('--seed <text>', 'seed of the random choices (default: random)')
  .parse()
  .opts();
let drawn = 0;
/** Numbers from 0 up to 1, the same for the same seed. */
const random = (): number => createHash('sha256').update(`${seed} ${drawn++}`).digest().readUInt32BE() / 2 ** 32;

const { folder, remove, keep } = await throwAwayFolder(print);
/** Between programs and SQL, and between the simulated companies and SQL. */
let proxies: [SqlProxy, SqlProxy] | undefined;
const stack = await startStack({
  folder,
  persistent: false,
  durable: true,
  say: print,
  async env(_program, databaseUrl) {
    proxies ??= [await openSqlProxy(databaseUrl), await openSqlProxy(databaseUrl)];
    const [sql, companies] = proxies;
    return {
      ...buildId(1),
      DATABASE_URL: sql.through(databaseUrl),
      SANDBOX_DATABASE_URL: companies.through(databaseUrl),
    };
  },
});
const { API_URL, DATABASE_URL, TEMPORAL_ADDRESS } = stack.addresses;
const { tokens, encryption } = stack;
const shopper = createShopper(API_URL, { retryForMs: RETRY_FOR_MS, timeoutMs: CALL_TIMEOUT_MS, tokens });
const api = createOrdersClient(API_URL, tokens && { token: tokens.office });
const sent: SentOrder[] = [];
const floods: Flood[] = [];
const injected: InjectedFault[] = [];
/** The state of each order at the end. */
const ends: string[] = [];
/** The most megabytes that each kind of process has taken. */
const memory = new Map<string, number>();
/** When the load began, by `performance.now`. */
let began = 0;
/** When the newest shipped order was shipped, epoch milliseconds. */
let lastShipped = 0;
let replays: Replays | undefined;

try {
  const timeout = sleep(minutes * 60_000 + CHECKED_WITHIN_MS + orders * CHECKED_WITHIN_MS_PER_ORDER, undefined, {
    ref: false,
  }).then(() => {
    throw new Error('the run has not ended within its time limit');
  });
  await Promise.race([run(), timeout]);
} catch (error) {
  print(error instanceof Error ? `${error.stack}` : String(error));
  process.exitCode = 1;
} finally {
  await stack.stop();
  for (const proxy of proxies ?? []) proxy.close();
  if (process.exitCode === 0) await remove();
  else print(`logs and data are kept in ${await keep()}`);
}
process.exit();

async function run(): Promise<void> {
  const [sql, companies] = proxies as [SqlProxy, SqlProxy];
  const foundByFaults: string[] = [];
  const broken = (line: string) => foundByFaults.push(line);
  const faults = await prepareFaults({ stack, sql, companies, random, broken, flood, settled });
  const end = Date.now() + minutes * 60_000;
  began = performance.now();
  const sampling = new AbortController();
  const watching = watch(faults.running, sampling.signal);
  print(`seed ${seed}: ${orders} orders in ${minutes} minutes`);
  const load = Array.from({ length: orders }, (_, n) => sendOrder(n));
  const [lastFault] = await Promise.all([injectFaults(faults.byName, end), ...load]);
  const drainFrom = Math.max(lastFault, end);
  const drained = await settled();
  const drain = Date.now() - drainFrom;
  sampling.abort();
  await watching;

  const all = [
    ...foundByFaults,
    ...(drained && drain <= DRAINED_WITHIN_MS
      ? []
      : [`orders still open ${DRAINED_WITHIN_MS / 1000} s after the last fault and the last order`]),
    ...(await checkOrders()),
    ...(await violationsIn(DATABASE_URL)),
    ...(await replay()),
    ...(await unexplainedLogLines()),
    ...[...memory].flatMap(([name, megabytes]) =>
      megabytes > (MEMORY_MB[name] ?? 0)
        ? [`${name} took ${megabytes} MB of memory, more than ${MEMORY_MB[name]} MB`]
        : [],
    ),
  ];
  report(drain, all);
  process.exitCode = all.length === 0 ? 0 : 1;
}

/** Sends an order and its commands: most are approved, some are canceled, redirected, declined or left to expire. */
async function sendOrder(n: number): Promise<void> {
  /** Chooses what happens to this order. */
  const choice = random();
  const order_id = `chaos-${n}`;
  const payment_id = choice > 0.95 ? `declined-${order_id}` : `pay-${order_id}`;
  const unreachable = choice > 0.1 && choice < 0.15;
  const address = unreachable ? { ...CHICAGO, city: 'Unreachable' } : CHICAGO;
  const order = { order_id, payment_id, address, items: [{ sku: 'ABC', qty: 1 + (n % 3) }] };
  const cancelAfter = random() * 3_000;
  await sleep((n * minutes * 60_000) / orders);

  const accepted = await start(order);
  const answers: Answer[] = [];
  sent.push({ order, accepted, answers });
  if (!accepted) return;
  const send = async <C extends Command>(command: C, input: CommandInput<C>) => {
    answers.push(await shopper.command(order_id, command, input));
  };
  if (choice < 0.03) await start(order);
  const cancels = choice > 0.2 && choice < 0.35 ? sleep(cancelAfter).then(() => send('cancel', {})) : undefined;
  if (choice > 0.15 && choice < 0.2) await send('address', { address: BOSTON });
  // A few are never approved.
  if (choice > 0.05 && choice < 0.08) return;
  await sleep(800);
  await send('approve', {});
  if (unreachable) await sleep(1_500).then(() => send('address', { address: BOSTON }));
  await cancels;
}

/** Floods an order with commands and approves it. */
async function flood(): Promise<void> {
  const order_id = `chaos-flooded-${floods.length}`;
  const servers = { temporal: TEMPORAL_ADDRESS, api: API_URL, tokens };
  floods.push(await floodOrder({ order_id, ...servers, shopper, forMs: FLOOD_MS }));
}

/** True once the order is accepted, false when the API didn't answer in time. Throws when it was refused. */
async function start(order: StartInput): Promise<boolean> {
  const answer = await shopper.start(order);
  if (answer.said === 'refused') throw new Error(`${order.order_id} was refused: ${answer.message}`);
  return answer.said === 'accepted';
}

/**
 * Injects every fault at least once, in rounds of a random order, until the load is over. Returns when the last fault
 * ended, epoch milliseconds.
 */
async function injectFaults(faults: Record<string, () => Promise<void>>, end: number): Promise<number> {
  let over = Date.now();
  for (let round = 1; round === 1 || Date.now() < end; round += 1) {
    for (const fault of shuffled(Object.keys(faults))) {
      if (round > 1 && Date.now() > end) return over;
      await faults[fault]?.();
      over = Date.now();
      while (lastShipped < over && Date.now() < Math.max(end, over + PAUSE_MS)) await sleep(100);
      const recovery = lastShipped < over ? undefined : Date.now() - over;
      injected.push({ fault, recovery });
      const outcome = recovery === undefined ? 'no order was left to ship' : `${recovery} ms until an order shipped`;
      print(`${seconds(performance.now() - began)}, ${sent.length} orders sent, ${fault}: ${outcome}`);
      await sleep(PAUSE_MS);
    }
  }
  return over;
}

function shuffled<T>(values: T[]): T[] {
  const keyed = values.map((value) => ({ value, key: random() }));
  return keyed.toSorted((one, other) => one.key - other.key).map(({ value }) => value);
}

/** True once every order received before a moment has ended, false after DRAINED_WITHIN_MS. */
async function settled(before = Number.POSITIVE_INFINITY): Promise<boolean> {
  const end = Date.now() + DRAINED_WITHIN_MS;
  while (Date.now() < end) {
    const pages = await Promise.all(OPEN_STATES.map((state) => api.list.query({ state, limit: 200 }))).catch(() => []);
    const open = pages.flatMap((page) => page.orders).filter(({ created_at }) => Date.parse(created_at) < before);
    if (pages.length > 0 && open.length === 0 && pages.every((page) => page.next_cursor === null)) return true;
    await sleep(500);
  }
  return false;
}

/** Records when orders ship and how much memory the processes take. */
async function watch(running: () => { name: string; pid: number }[], signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const newest = await api.list
      .query({ state: 'shipped', limit: 20 }, { signal: AbortSignal.timeout(2_000) })
      .catch(() => undefined);
    for (const { updated_at } of newest?.orders ?? []) lastShipped = Math.max(lastShipped, Date.parse(updated_at));
    for (const { name, pid } of running()) {
      const kind = name.replace(/-.*$/, '');
      memory.set(kind, Math.max(memory.get(kind) ?? 0, memoryOf(pid)));
    }
    await sleep(200, undefined, { signal }).catch(() => undefined);
  }
}

/** The guarantees that any order breaks. An order whose start got no answer may exist; then it must have ended like any other. */
async function checkOrders(): Promise<string[]> {
  const broken: string[] = [];
  for (const { order, accepted, answers } of sent) {
    const view = await shopper.get(order.order_id);
    if (view) broken.push(...brokenGuarantees(view, answers));
    else if (accepted) broken.push(`${order.order_id}: was accepted, but does not exist`);
    ends.push(view?.state ?? 'never accepted');
  }
  for (const { order, approval } of floods) {
    const view = await shopper.get(order.order_id);
    // Which of the changes that were sent at the same time came last is not known, so their answers are not compared.
    if (view) broken.push(...brokenGuarantees(view, [approval]));
    if (approval.said !== 'accepted' && approval.said !== 'queued')
      broken.push(
        `${order.order_id}: after a flood of commands its approval was ${approval.said}: ${approval.message}`,
      );
    if (view?.state !== 'shipped')
      broken.push(`${order.order_id}: was flooded and approved, but is ${view?.state ?? 'gone'}`);
  }
  return broken;
}

/** The runs whose histories do not replay, or not in the time of a workflow task: another worker could not have continued them. */
async function replay(): Promise<string[]> {
  replays = await replayAll({ temporal: TEMPORAL_ADDRESS, database: DATABASE_URL, encryption });
  const accepted = sent.filter((order) => order.accepted).length + floods.length;
  return [
    ...(replays.replayed < accepted ? [`${replays.replayed} histories for ${accepted} accepted orders`] : []),
    ...(replays.longestWithoutSignals > MAX_EVENTS
      ? [`a history of ${replays.longestWithoutSignals} events without its signals, more than ${MAX_EVENTS}`]
      : []),
    ...replays.broken,
  ];
}

/** Lines of the workers' logs that report a bug, which no outage can cause. */
async function unexplainedLogLines(): Promise<string[]> {
  const logs = (await readdir(join(folder, 'logs'))).filter((name) => name.startsWith('worker'));
  const texts = await Promise.all(logs.map((name) => readFile(join(folder, 'logs', name), 'utf8')));
  const lines = texts.flatMap((text) => text.split('\n'));
  return lines.filter((line) => /TypeError|ReferenceError|[Uu]nhandled/.test(line)).slice(0, 5);
}

function report(drain: number, broken: string[]): void {
  const table = new Table({
    head: ['fault', 'times', 'until an order shipped again: median', 'max'],
    style: { head: [], border: [] },
  });
  for (const [fault, times = []] of Object.entries(Object.groupBy(injected, ({ fault }) => fault))) {
    const known = times.flatMap(({ recovery }) => recovery ?? []).toSorted((a, b) => a - b);
    table.push([fault, times.length, seconds(known[Math.floor(known.length / 2)]), seconds(known.at(-1))]);
  }
  const said = sent.flatMap(({ answers }) => answers.map((answer) => answer.said));
  print(table.toString());
  print(`seed             ${seed}`);
  print(`orders           ${sent.length}: ${counted(ends)}`);
  print(`commands         ${said.length}: ${counted(said)}`);
  const changes = floods.flatMap((flood) => flood.changes.map(({ said }) => said));
  const taken = floods.reduce((sum, flood) => sum + flood.taken, 0);
  print(
    `flooded orders   ${floods.length}: ${taken} calls to Temporal taken, ${changes.length} to the API: ${counted(changes)}`,
  );
  print(`drained          ${seconds(drain)} after the last fault and the last order`);
  print(
    `histories        ${replays?.replayed} replayed, the longest has ${replays?.longest} events, ${replays?.longestWithoutSignals} without signals`,
  );
  print(`memory, at most  ${[...memory].map(([name, megabytes]) => `${name} ${megabytes} MB`).join(', ')}`);
  print(
    broken.length === 0
      ? 'no guarantee was broken; every payment and every parcel is accounted for, and the trail is unbroken'
      : broken.join('\n'),
  );
}

function seconds(milliseconds: number | undefined): string {
  return milliseconds === undefined ? '' : `${(milliseconds / 1000).toFixed(1)} s`;
}

function counted(words: string[]): string {
  const groups = Object.entries(Object.groupBy(words, (word) => word));
  return groups.map(([word, all]) => `${word} ${all?.length}`).join(', ');
}
