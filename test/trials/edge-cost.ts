/** `npm run edge-cost [-- --rounds 25 --requests 2000]`: cold start and cost per request of our API on the edge runtime, beside a bare Hono worker's. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { isTerminal } from '@trellis/contracts/lifecycle';
import { createTypedShop, startWhenAdmitted } from '@trellis/local/shopper';
import { type Stack, startStack, throwAwayFolder } from '@trellis/local/stack/stack';
import Table from 'cli-table3';
import * as v from 'valibot';
import { type Bundle, bundleWorker, cpuOf, startWorkerd, type Workerd } from './workerd.ts';

const ORDERS = 20;
const BLOCKS = 20;
/** Blocks before those that count. */
const WARM_UP = 2;
/** /health asks no one. */
const NOWHERE = { TEMPORAL_ADDRESS: 'http://127.0.0.1:1', DATABASE_URL: 'http://user:password@127.0.0.1:1' };

const say = (line: string) => process.stdout.write(`${line}\n`);
const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '25' }, requests: { type: 'string', default: '2000' } },
});
const count = v.pipe(v.string(), v.transform(Number), v.number(), v.integer(), v.minValue(1));
const { rounds, requests } = v.parse(v.object({ rounds: count, requests: count }), values);
const table = new Table({
  head: ['', 'ours', 'bare Hono', 'ratio'],
  colAligns: ['left', 'right', 'right', 'right'],
  style: { head: [], border: [] },
});

const { folder, remove } = await throwAwayFolder(say);
let stack: Stack | undefined;
try {
  const ours = await bundleWorker(join(folder, 'ours'));
  const bare = await bundleWorker(join(folder, 'bare'), 'test/trials/bare-hono.ts');
  addRow('bundle, gzip', 'kB', ...[ours, bare].map(({ code }) => gzipSync(code).length / 1000));
  await measureColdStarts([ours, bare]);
  const alone = [await startWorkerd(ours, NOWHERE), await startWorkerd(bare, NOWHERE)];
  await measureRequests(alone, '/health');
  await Promise.all(alone.map((worker) => worker.stop()));

  stack = await startStack({ folder, persistent: false, edge: true, env: { FLAKY_CALL: 'off' }, say });
  const { API_URL, PLANETSCALE_URL = '', TEMPORAL_HTTP_URL } = stack.addresses;
  const shipped = await shipOrders(API_URL);
  const api = await startWorkerd(ours, { TEMPORAL_ADDRESS: TEMPORAL_HTTP_URL, DATABASE_URL: PLANETSCALE_URL });
  await measureRequests([api], `/orders?limit=${ORDERS}`);
  await measureRequests([api], `/orders/${shipped}/status`, '/orders/{id}/status of a shipped order');
  await api.stop();
  say(table.toString());
} finally {
  await stack?.stop();
  await remove();
}
process.exit();

/** In turns, as the requests are below, so that what else the machine does meets both alike. */
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

/** One request after the other; how long each took. */
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

/** Answers the last one's id. */
async function shipOrders(url: string): Promise<string> {
  const shop = createTypedShop(url);
  for (let n = 1; ; n += 1) {
    const order_id = `edge-cost-${n}`;
    const address = { line1: '1 Main St', city: 'Chicago' };
    await startWhenAdmitted(shop, { order_id, payment_id: `pay-${n}`, address, items: [{ sku: 'ABC', qty: 1 }] });
    await shop.approve(order_id);
    let { state } = await shop.get(order_id);
    for (; !isTerminal(state); state = (await shop.get(order_id)).state) await sleep(50);
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
