/** `npm run edge-cost`: cold start and cost per request of this API on the edge runtime, beside those of a bare Hono app. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { count, print, script } from '@trellis/local/options';
import { accepted, createShopper } from '@trellis/local/shopper';
import { throwAwayFolder } from '@trellis/local/stack/folder';
import { cpuOf } from '@trellis/local/stack/processes';
import { type Stack, startStack } from '@trellis/local/stack/stack';
import Table from 'cli-table3';
import { type Bundle, bundleWorker, startWorkerd, type Workerd } from './workerd.ts';

/** Orders in the database whose list and status are read. */
const ORDERS = 20;
const ORDER = { address: { line1: '1 Main St', city: 'Chicago' }, items: [{ sku: 'ABC', qty: 1 }] };
/** Requests are sent in this number of blocks, alternating between the compared apps. */
const BLOCKS = 20;
/** Blocks that are sent before the measured ones. */
const WARM_UP = 2;
/** Unused addresses, for measurements of `/health`, which calls neither server. */
const NOWHERE = {
  AUTH_PUBLIC_KEYS: 'A'.repeat(43),
  TEMPORAL_ADDRESS: 'http://127.0.0.1:1',
  DATABASE_URL: 'http://user:password@127.0.0.1:1',
};

const { rounds, requests } = script(
  'npm run edge-cost',
  'Measure cold start and cost per request on the edge runtime, beside a bare Hono app.',
)
  .option('--rounds <count>', 'cold starts of each', count, 25)
  .option('--requests <count>', 'requests for each measured path', count, 2000)
  .parse()
  .opts();
const table = new Table({
  head: ['', 'ours', 'bare Hono', 'ratio'],
  colAligns: ['left', 'right', 'right', 'right'],
  style: { head: [], border: [] },
});

const { folder, remove } = await throwAwayFolder(print);
let stack: Stack | undefined;
try {
  const ours = await bundleWorker(join(folder, 'ours'));
  const bare = await bundleWorker(join(folder, 'bare'), 'test/trials/bare-hono.ts');
  addRow('bundle, gzip', 'kB', ...[ours, bare].map(({ code }) => gzipSync(code).length / 1000));
  await measureColdStarts([ours, bare]);
  const alone = [await startWorkerd(ours, NOWHERE), await startWorkerd(bare, NOWHERE)];
  await measureRequests(alone, '/health');
  await Promise.all(alone.map((worker) => worker.stop()));

  stack = await startStack({ folder, persistent: false, edge: true, env: { FLAKY_CALL: 'off' }, say: print });
  const { API_URL, PLANETSCALE_URL = '', TEMPORAL_HTTP_URL } = stack.addresses;
  const shipped = await shipOrders(API_URL);
  const servers = { AUTH: 'off', TEMPORAL_ADDRESS: TEMPORAL_HTTP_URL, DATABASE_URL: PLANETSCALE_URL };
  // Under this policy the order below stays in review.
  const api = await startWorkerd(ours, { ...servers, POLICY: 'production' });
  const inReview = { order_id: 'edge-cost-open', payment_id: 'pay-open', ...ORDER };
  accepted(await createShopper(api.url).start(inReview));
  await measureRequests([api], `/orders?limit=${ORDERS}`);
  await measureRequests([api], `/orders/${shipped}`, '/orders/{id}, shipped');
  await measureRequests([api], `/orders/${shipped}/status`, '/orders/{id}/status, shipped, asked for again');
  await measureRequests(
    [api],
    `/orders/${inReview.order_id}/status`,
    '/orders/{id}/status, in review: from SQL each time',
  );
  await api.stop();
  print(table.toString());
} finally {
  await stack?.stop();
  await remove();
}
process.exit();

/** Alternates between the two, so that other load on the machine affects both alike. */
async function measureColdStarts(bundles: Bundle[]): Promise<void> {
  const taken = bundles.map((): number[] => []);
  for (let round = 0; round < rounds; round += 1) {
    for (const [at, bundle] of bundles.entries()) {
      const worker = await startWorkerd(bundle, NOWHERE);
      await worker.stop();
      taken[at]?.push(worker.coldStart);
    }
  }
  addRow('from the start of workerd to the first answer, median', 'ms', ...taken.map((times) => quantile(times, 0.5)));
}

async function measureRequests(workers: Workerd[], path: string, name = path): Promise<void> {
  for (const { url } of workers) for (let n = 0; n < WARM_UP; n += 1) await askBlock(url + path);
  const taken = workers.map((): number[] => []);
  const before = workers.map(({ pid }) => cpuOf(pid));
  for (let n = 0; n < BLOCKS; n += 1)
    for (const [at, { url }] of workers.entries()) taken[at]?.push(...(await askBlock(url + path)));
  const cpu = workers.map(({ pid }, at) => (cpuOf(pid) - (before[at] ?? 0)) / (taken[at]?.length ?? 0));
  addRow(`GET ${name}, median`, 'ms', ...taken.map((times) => quantile(times, 0.5)));
  addRow('  p95', 'ms', ...taken.map((times) => quantile(times, 0.95)));
  addRow('  CPU time of workerd', 'ms', ...cpu);
}

/** Sends a block of requests, one after the other. Returns the milliseconds that each took. */
async function askBlock(url: string): Promise<number[]> {
  const times: number[] = [];
  while (times.length < requests / BLOCKS) {
    const began = performance.now();
    const response = await fetch(url);
    const body = await response.text();
    times.push(performance.now() - began);
    if (!response.ok) throw new Error(`${url} answered ${response.status}: ${body}`);
  }
  return times;
}

/** Ships orders one after the other; returns the id of the last one. */
async function shipOrders(url: string): Promise<string> {
  const shopper = createShopper(url);
  for (let n = 1; ; n += 1) {
    const order_id = `edge-cost-${n}`;
    accepted(await shopper.start({ order_id, payment_id: `pay-${n}`, ...ORDER }));
    await shopper.command(order_id, 'approve', {});
    let state = (await shopper.get(order_id))?.state;
    for (; !state || !isTerminal(state); state = (await shopper.get(order_id))?.state) await sleep(50);
    if (state !== 'shipped') throw new Error(`${order_id} ended as ${state}`);
    if (n === ORDERS) return order_id;
  }
}

function addRow(what: string, unit: string, ours = Number.NaN, bare?: number): void {
  if (Number.isNaN(ours)) return;
  const beside = bare === undefined ? ['', ''] : [`${bare.toPrecision(3)} ${unit}`, (ours / bare).toFixed(2)];
  table.push([what, `${ours.toPrecision(3)} ${unit}`, ...beside]);
}

function quantile(values: number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.ceil(share * values.length) - 1] ?? Number.NaN;
}
