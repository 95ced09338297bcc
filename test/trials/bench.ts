/** `npm run bench`: how quickly the programs start, what memory they take, and what API and orders cost beside bare ones. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { count, Option, print, script } from '@trellis/local/options';
import { accepted, createShopper } from '@trellis/local/shopper';
import { startApi, startWorker } from '@trellis/local/stack/node-programs';
import { freePort } from '@trellis/local/stack/ports';
import { memoryOf, type Service, startProcess } from '@trellis/local/stack/processes';
import { type Stack, withStack } from '@trellis/local/stack/stack';
import autocannon from 'autocannon';
import Table from 'cli-table3';
import type { Shares } from './cpu-profile.ts';
import {
  type Figures,
  measureOrders,
  measureParked,
  median,
  profileWorker,
  type Side,
  withSides,
} from './order-load.ts';

/** Connections of the load generator, which has a core of its own where there are two. */
const CONNECTIONS = 20;
/** A program that has just started has garbage that it soon gives back. */
const AT_REST_AFTER_MS = 5_000;
const INVALID_START = JSON.stringify({
  payment_id: 'pay-1',
  address: { line1: '1 Main St', city: 'Chicago' },
  items: [],
});

const { turns, seconds, orders, inFlight, parked, only, oneWatchdog } = script(
  'npm run bench',
  'Measure the start, the memory and the cost of the programs, sides in turns.',
)
  .option('--turns <count>', 'measurements of each side', count, 3)
  .option('--seconds <count>', 'duration of each of the API', count, 5)
  .option('--orders <count>', 'orders counted in each turn', count, 320)
  .option('--in-flight <count>', 'orders under way at once', count, 32)
  .option('--parked <count>', 'orders parked in review', count, 1000)
  .option('--one-watchdog', 'run our worker with the preload workers/one-watchdog.ts')
  .addOption(
    new Option('--only <section>', 'one section alone').choices(['start', 'api', 'order', 'parked', 'profile']),
  )
  .parse()
  .opts();

const table = new Table({ head: ['median', 'ours', 'beside', 'ratio'], style: { head: [], border: [] } });
const quiet = { FLAKY_CALL: 'off', LOG_LEVEL: 'warn', NODE_ENV: 'production' };
const ourWorker = oneWatchdog
  ? { NODE_OPTIONS: `--import ${new URL('../../workers/one-watchdog.ts', import.meta.url)}` }
  : {};
const sections = {
  start: () => withStack({ env: quiet, say: print }, measureStart),
  api: () => withStack({ env: quiet, say: print }, measureApi),
  order: () => withSides(quiet, ourWorker, compareOrders),
  parked: () => withSides({ ...quiet, POLICY: 'production' }, ourWorker, compareParked),
  profile: () => withSides(quiet, ourWorker, compareProfiles),
};
for (const [name, measure] of Object.entries(sections)) if (!only || only === name) await measure();
if (table.length > 0) print(table.toString());
process.exit();

async function measureStart({ addresses }: Stack, folder: string): Promise<void> {
  const env = { ...addresses, ...quiet };
  const port = await freePort();
  for (const [name, start] of [
    ['api', (built?: string) => startApi({ folder, built, name: 'measured', port, env })],
    ['worker', (built?: string) => startWorker({ folder, built, name: 'measured', env })],
  ] as const) {
    const [ours, sources] = await inTurns([() => begin(() => start(`${folder}/dist`)), () => begin(() => start())]);
    const until = name === 'api' ? 'listens' : 'polls';
    row(
      `${name}: until it ${until}`,
      'ms',
      ours.map(({ ms }) => ms),
      'sources',
      sources.map(({ ms }) => ms),
    );
    row(
      `${name}: memory at rest`,
      'MB',
      ours.map(({ MB }) => MB),
      'sources',
      sources.map(({ MB }) => MB),
    );
  }
}

async function measureApi({ addresses }: Stack, folder: string): Promise<void> {
  const port = await freePort();
  const bare = await startProcess(folder, {
    name: 'bare-api',
    command: process.execPath,
    args: [fileURLToPath(new URL('bare-api.ts', import.meta.url))],
    env: { ...process.env, NODE_ENV: 'production', PORT: `${port}` },
    ipc: true,
  });
  const refused = (url: string) => () =>
    load({ url: `${url}/orders/o-1/start`, method: 'POST', body: INVALID_START, expected: 422 });
  const [ours, theirs] = await inTurns([refused(addresses.API_URL), refused(`http://127.0.0.1:${port}`)]);
  await bare.stop();
  row('POST …/start that is refused with 422', '/s', ours, 'bare Hono', theirs);

  const order_id = await ended(addresses.API_URL);
  const url = `${addresses.API_URL}/orders/${order_id}`;
  const [status, view] = await inTurns([() => load({ url: `${url}/status` }), () => load({ url })]);
  row('GET …/status of an ended order', '/s', status);
  row('GET /orders/{id} of it', '/s', view);
}

async function compareOrders(sides: Side[], stack: Stack): Promise<void> {
  const [ours, theirs] = await inTurns(
    sides.map((side) => async () => {
      const figures = await measureOrders(side, stack, { orders, inFlight });
      const { ordersPerSecond, cpu, refusals, others } = figures;
      const spent = Object.values(cpu).map((ms) => ms.toFixed(1));
      print(
        `${side.name}: ${ordersPerSecond.toFixed(1)} orders/s, CPU ${spent.join(' + ')} ms, ${refusals} starts BUSY, ` +
          `other programs ${(100 * others).toFixed(0)} % of the machine`,
      );
      return figures;
    }),
  );
  const of = (what: string, unit: string, figure: (figures: Figures) => number) =>
    row(what, unit, ours.map(figure), 'bare order', theirs.map(figure));
  of(`orders, ${inFlight} in flight, warm`, '/s', (figures) => figures.ordersPerSecond);
  of('  the first after the start', '/s', (figures) => figures.first);
  of('  as many after these', '/s', (figures) => figures.next);
  of('CPU of an order: worker', 'ms', ({ cpu }) => cpu.worker);
  of('  API', 'ms', ({ cpu }) => cpu.api);
  of('  worker and API', 'ms', ({ cpu }) => cpu.worker + cpu.api);
  of('  Temporal’s server', 'ms', ({ cpu }) => cpu.temporal);
  of('  SQL server', 'ms', ({ cpu }) => cpu.sql);
  of('  in all', 'ms', ({ cpu }) => cpu.worker + cpu.api + cpu.temporal + cpu.sql);
  of('approve → shipped, one in flight', 'ms', (figures) => figures.approveToShipped);
  of('start → answer, one in flight', 'ms', (figures) => figures.startAnswered);
  of('history events of an order', '', (figures) => figures.events);
  of('workflow tasks of an order', '', (figures) => figures.workflowTasks);
  of(`worker: memory at most, ${inFlight} in flight`, 'MB', ({ memory }) => memory.worker);
  of(`API: memory at most, ${inFlight} in flight`, 'MB', ({ memory }) => memory.api);
}

async function compareParked(sides: Side[]): Promise<void> {
  const [ours, theirs] = await inTurns(sides.map((side) => () => measureParked(side, { orders: parked, inFlight })));
  row(`worker: ${parked} more orders in review`, 'MB', ours, 'bare order', theirs);
}

/** One turn of each side. */
async function compareProfiles(sides: Side[], _: Stack, folder: string): Promise<void> {
  const profiles: Shares[] = [];
  for (const side of sides) profiles.push(await profileWorker(side, folder, { orders, inFlight }));
  const head = ['CPU of a worker, ms an order', ...sides.flatMap(({ name }) => [`${name}: self`, 'total'])];
  const profile = new Table({ head, style: { head: [], border: [] } });
  const figure = (ms = 0) => (ms < 0.05 ? '' : ms.toFixed(1));
  for (const group of new Set(profiles.flatMap((shares) => Object.keys(shares)))) {
    const figures = profiles.flatMap(({ [group]: share }) => [figure(share?.self), figure(share?.total)]);
    if (figures.some((text) => text !== '')) profile.push([group, ...figures]);
  }
  print(profile.toString());
}

/** Runs the sides one after the other, `turns` times, and every other time in reverse; returns the results of each. */
async function inTurns<T>(sides: (() => Promise<T>)[]): Promise<[T[], T[]]> {
  const results: [T[], T[]] = [[], []];
  for (let turn = 0; turn < turns; turn += 1) {
    const entries = [...sides.entries()];
    for (const [at, side] of turn % 2 === 0 ? entries : entries.toReversed()) results[at]?.push(await side());
  }
  return results;
}

/** Starts a program, and stops it once it is at rest. */
async function begin(start: () => Promise<Service>): Promise<{ ms: number; MB: number }> {
  const began = performance.now();
  const service = await start();
  const ms = performance.now() - began;
  await sleep(AT_REST_AFTER_MS);
  const MB = memoryOf(service.pid);
  await service.stop();
  return { ms, MB };
}

/** Requests a second. Throws when an answer has another status than `expected`. */
async function load({
  expected = 200,
  ...options
}: {
  url: string;
  method?: 'POST';
  body?: string;
  expected?: number;
}): Promise<number> {
  const headers = { 'content-type': 'application/json' };
  const { requests, statusCodeStats } = await autocannon({
    ...options,
    headers,
    connections: CONNECTIONS,
    duration: seconds,
  });
  const others = Object.keys(statusCodeStats ?? {}).filter((status) => status !== `${expected}`);
  if (others.length > 0) throw new Error(`${options.url} answered ${others}`);
  return requests.average;
}

/** Cancels an order; returns its id once it has ended. */
async function ended(api: string): Promise<string> {
  const shopper = createShopper(api);
  const order_id = 'bench-1';
  const address = { line1: '1 Main St', city: 'Chicago' };
  accepted(await shopper.start({ order_id, payment_id: 'pay-1', address, items: [{ sku: 'ABC', qty: 1 }] }));
  await shopper.command(order_id, 'cancel', {});
  for (;;) {
    const state = (await shopper.get(order_id))?.state;
    if (state && isTerminal(state)) return order_id;
    await sleep(50);
  }
}

/** Adds the medians to the table. A figure that could not be measured, as of a server on another machine, is left out. */
function row(what: string, unit: string, ours: number[], name = '', theirs: number[] = []): void {
  const [one, other] = [median(ours), median(theirs)];
  const figure = (value: number) => `${value.toFixed(value < 100 ? 1 : 0)}${unit === '/s' ? '' : ' '}${unit}`;
  if (Number.isNaN(one)) return;
  const beside = Number.isNaN(other) ? ['', ''] : [`${name} ${figure(other)}`, (one / other).toFixed(2)];
  table.push([what, figure(one), ...beside]);
}
