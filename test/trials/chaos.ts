/** `npm run chaos -- --orders N --minutes M [--seed S]`: orders under load while all they depend on breaks, and what became of each. */
import { createHash, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createOrdersClient } from '@trellis/client';
import { OPEN_STATES } from '@trellis/contracts/lifecycle';
import type { StartInput } from '@trellis/contracts/order';
import { violations } from '@trellis/local/books';
import { memoryOf } from '@trellis/local/stack/processes';
import { startStack, throwAwayFolder } from '@trellis/local/stack/stack';
import Table from 'cli-table3';
import * as v from 'valibot';
import { createCustomer } from './customer.ts';
import { buildId, readyFaults } from './faults.ts';
import { type Answer, brokenPromises } from './promises.ts';
import { replayAll } from './replays.ts';
import { openSqlProxy, type SqlProxy } from './sql-proxy.ts';

/** An order that somebody tried to place, and what they were told. */
interface Placed {
  order: StartInput;
  /** False when nobody said that it was. */
  accepted: boolean;
  answers: Answer[];
}

interface Struck {
  fault: string;
  /** Milliseconds from the fault's end until an order shipped again; undefined when there was none left to ship. */
  recovery: number | undefined;
}

const DRAINED_WITHIN_MS = 60_000;
/** What is left of a run after its load: the last fault, the drain, and the judgement of every order. */
const JUDGED_WITHIN_MS = 600_000;
/** Customers of an API that is down try again for so long. */
const PATIENCE_MS = 60_000;
/** Between the end of a fault and the next one, besides the time to recover. */
const CALM_MS = 1_000;
/** Megabytes that a process may hold. None lives long here, so this is a ceiling and says nothing of slow growth. */
const MEMORY_MB: Record<string, number> = { worker: 1_500, api: 600, sql: 500, temporal: 2_500 };
const BOSTON = { line1: '2 Birch', city: 'Boston' };
const CHICAGO = { line1: '1 Main St', city: 'Chicago' };

const say = (line: string) => process.stdout.write(`${line}\n`);
const positive = v.pipe(v.string(), v.transform(Number), v.number(), v.gtValue(0));
const { values } = parseArgs({
  options: {
    orders: { type: 'string', default: '1000' },
    minutes: { type: 'string', default: '5' },
    seed: { type: 'string', default: randomUUID().slice(0, 8) },
  },
});
const { orders, minutes } = v.parse(v.object({ orders: positive, minutes: positive }), values);
const { seed } = values;
let drawn = 0;
/** From 0 up to 1, the same numbers for the same seed. */
const random = (): number => createHash('sha256').update(`${seed} ${drawn++}`).digest().readUInt32BE() / 2 ** 32;

const { folder, remove } = await throwAwayFolder(say);
const proxies: SqlProxy[] = [];
const proxy = async (url: string): Promise<SqlProxy> => {
  const opened = await openSqlProxy(url);
  proxies.push(opened);
  return opened;
};
const stack = await startStack({
  folder,
  persistent: false,
  durable: true,
  say,
  env: async ({ DATABASE_URL }) => ({
    ...buildId(1),
    DATABASE_URL: (await proxy(DATABASE_URL)).url,
    SANDBOX_DATABASE_URL: (await proxy(DATABASE_URL)).url,
  }),
});
const { API_URL, DATABASE_URL } = stack.addresses;
const customer = createCustomer(API_URL, PATIENCE_MS);
const api = createOrdersClient(API_URL);
const placed: Placed[] = [];
const struck: Struck[] = [];
const ends: string[] = [];
const memory = new Map<string, number>();
let lastShipped = 0;
let replayed = 0;

try {
  const givenUp = sleep(minutes * 60_000 + JUDGED_WITHIN_MS, undefined, { ref: false }).then(() => {
    throw new Error('the run does not come to an end');
  });
  await Promise.race([run(), givenUp]);
} catch (error) {
  say(error instanceof Error ? `${error.stack}` : String(error));
  process.exitCode = 1;
} finally {
  await stack.stop();
  for (const opened of proxies) opened.close();
  if (process.exitCode === 0) await remove();
  else say(`what was written is kept in ${folder}`);
}
process.exit();

async function run(): Promise<void> {
  const [sql, companies] = proxies as [SqlProxy, SqlProxy];
  const faults = await readyFaults({ stack, sql, companies, random, settled });
  const end = Date.now() + minutes * 60_000;
  const sampling = new AbortController();
  const watching = watch(faults.running, sampling.signal);
  say(`seed ${seed}: ${orders} orders in ${minutes} minutes`);
  const customers = Array.from({ length: orders }, (_, n) => placeOne(n));
  const [lastFault] = await Promise.all([makeTrouble(faults.byName, end), ...customers]);
  const calm = Math.max(lastFault, end);
  const drained = await settled();
  const drain = Date.now() - calm;
  sampling.abort();
  await watching;

  const broken = [
    ...(drained && drain <= DRAINED_WITHIN_MS ? [] : [`not drained within ${DRAINED_WITHIN_MS / 1000} s of calm`]),
    ...(await judge()),
    ...(await violations(DATABASE_URL)),
    ...(await replay()),
    ...(await unexplainedLogLines()),
    ...[...memory].flatMap(([name, megabytes]) =>
      megabytes > (MEMORY_MB[name] ?? 0) ? [`${name} grew to ${megabytes} MB`] : [],
    ),
  ];
  report(drain, broken);
  process.exitCode = broken.length === 0 ? 0 : 1;
}

/** What customers do, the faults' own times aside: most just buy, some change their minds. */
async function placeOne(n: number): Promise<void> {
  const mood = random();
  const order_id = `chaos-${n}`;
  const payment_id = mood > 0.95 ? `declined-${order_id}` : `pay-${order_id}`;
  const unreachable = mood > 0.1 && mood < 0.15;
  const address = unreachable ? { ...CHICAGO, city: 'Unreachable' } : CHICAGO;
  const order = { order_id, payment_id, address, items: [{ sku: 'ABC', qty: 1 + (n % 3) }] };
  const cancelAfter = random() * 3_000;
  await sleep((n * minutes * 60_000) / orders);

  const one: Placed = { order, accepted: await customer.start(order), answers: [] };
  placed.push(one);
  if (!one.accepted) return;
  const ask = async (...asked: Parameters<typeof customer.ask> extends [string, ...infer Rest] ? Rest : never) => {
    one.answers.push(await customer.ask(order_id, ...asked));
  };
  if (mood < 0.03) await customer.start(order);
  const cancels = mood > 0.2 && mood < 0.35 ? sleep(cancelAfter).then(() => ask('cancel')) : undefined;
  if (mood > 0.15 && mood < 0.2) await ask('address', { address: BOSTON });
  // A few are never approved.
  if (mood > 0.05 && mood < 0.08) return;
  await sleep(800);
  await ask('approve');
  if (unreachable) await sleep(1_500).then(() => ask('address', { address: BOSTON }));
  await cancels;
}

/**
 * Strikes with every fault in turn, in another order each time round, at least once each, until the load is over.
 * Answers when the last fault ended.
 */
async function makeTrouble(faults: Record<string, () => Promise<void>>, end: number): Promise<number> {
  let over = Date.now();
  for (let round = 1; round === 1 || Date.now() < end; round += 1) {
    for (const fault of shuffled(Object.keys(faults))) {
      if (round > 1 && Date.now() > end) return over;
      await faults[fault]?.();
      over = Date.now();
      while (lastShipped < over && Date.now() < Math.max(end, over + CALM_MS)) await sleep(100);
      const recovery = lastShipped < over ? undefined : Date.now() - over;
      struck.push({ fault, recovery });
      say(`${fault}: ${recovery === undefined ? 'nothing was left to ship' : `${recovery} ms until an order shipped`}`);
      await sleep(CALM_MS);
    }
  }
  return over;
}

function shuffled<T>(values: T[]): T[] {
  const keyed = values.map((value) => ({ value, key: random() }));
  return keyed.toSorted((one, other) => one.key - other.key).map(({ value }) => value);
}

/** True once every order that was received before a moment has ended; false when that takes longer than it may. */
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

/** Notes when orders ship, and how large processes become. */
async function watch(running: () => { name: string; pid: number }[], signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const newest = await api.list
      .query({ state: 'shipped', limit: 20 }, { signal: AbortSignal.timeout(2_000) })
      .catch(() => undefined);
    for (const { updated_at } of newest?.orders ?? []) lastShipped = Math.max(lastShipped, Date.parse(updated_at));
    for (const { name, pid } of running()) {
      const kind = name.replace(/-\d+$/, '');
      memory.set(kind, Math.max(memory.get(kind) ?? 0, memoryOf(pid)));
    }
    await sleep(200, undefined, { signal }).catch(() => undefined);
  }
}

/** The promises that were broken to anybody. An order that nobody accepted may exist, then it has ended like any other. */
async function judge(): Promise<string[]> {
  const broken: string[] = [];
  for (const { order, accepted, answers } of placed) {
    const view = await customer.get(order.order_id);
    if (view) broken.push(...brokenPromises(view, answers));
    else if (accepted) broken.push(`${order.order_id}: was accepted, and nobody knows it`);
    ends.push(view?.state ?? 'never accepted');
  }
  return broken;
}

/** The orders that would not have gone on if another worker had taken them over at any moment. */
async function replay(): Promise<string[]> {
  const replays = await replayAll(stack.addresses.TEMPORAL_ADDRESS);
  replayed = replays.replayed;
  const accepted = placed.filter((order) => order.accepted).length;
  return replayed < accepted ? [`only ${replayed} histories were found`, ...replays.broken] : replays.broken;
}

/** Lines of the worker's log that no outage explains. */
async function unexplainedLogLines(): Promise<string[]> {
  const logs = ['worker', ...struck.map((_, n) => `worker-${n + 2}`)].map((name) =>
    join(folder, 'logs', `${name}.log`),
  );
  const texts = await Promise.all(logs.map((path) => readFile(path, 'utf8').catch(() => '')));
  const lines = texts.flatMap((text) => text.split('\n'));
  return lines.filter((line) => /TypeError|ReferenceError|[Uu]nhandled/.test(line)).slice(0, 5);
}

function report(drain: number, broken: string[]): void {
  const table = new Table({
    head: ['fault', 'times', 'until an order shipped again: median', 'max'],
    style: { head: [], border: [] },
  });
  for (const [fault, times = []] of Object.entries(Object.groupBy(struck, ({ fault }) => fault))) {
    const known = times.flatMap(({ recovery }) => recovery ?? []).toSorted((a, b) => a - b);
    table.push([fault, times.length, seconds(known[Math.floor(known.length / 2)]), seconds(known.at(-1))]);
  }
  const said = placed.flatMap(({ answers }) => answers.map((answer) => answer.said));
  say(table.toString());
  say(`seed             ${seed}`);
  say(`orders           ${placed.length}: ${counted(ends)}`);
  say(`commands         ${said.length}: ${counted(said)}`);
  say(`drained          ${seconds(drain)} after the last fault and the last order`);
  say(`histories        ${replayed} replayed`);
  say(`memory, at most  ${[...memory].map(([name, megabytes]) => `${name} ${megabytes} MB`).join(', ')}`);
  say(broken.length === 0 ? 'no promise was broken; both sides’ books agree' : broken.join('\n'));
}

function seconds(milliseconds: number | undefined): string {
  return milliseconds === undefined ? '' : `${(milliseconds / 1000).toFixed(1)} s`;
}

function counted(words: string[]): string {
  const groups = Object.entries(Object.groupBy(words, (word) => word));
  return groups.map(([word, all]) => `${word} ${all?.length}`).join(', ');
}
