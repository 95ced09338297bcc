/** `npm run bench`: how quickly the programs start, what memory they take, and what the API costs beside a bare Hono app. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { count, print, script } from '@trellis/local/options';
import { accepted, createShopper } from '@trellis/local/shopper';
import { startApi, startWorker } from '@trellis/local/stack/node-programs';
import { freePort } from '@trellis/local/stack/ports';
import { memoryOf, type Service, startProcess } from '@trellis/local/stack/processes';
import { withStack } from '@trellis/local/stack/stack';
import autocannon from 'autocannon';
import Table from 'cli-table3';

/** Connections of the load generator, which has a core of its own where there are two. */
const CONNECTIONS = 20;
/** A program that has just started has garbage that it soon gives back. */
const AT_REST_AFTER_MS = 5_000;
const INVALID_START = JSON.stringify({
  payment_id: 'pay-1',
  address: { line1: '1 Main St', city: 'Chicago' },
  items: [],
});

const { turns, seconds } = script(
  'npm run bench',
  'Measure the start, the memory and the cost of the programs, sides in turns.',
)
  .option('--turns <count>', 'measurements of each side', count, 5)
  .option('--seconds <count>', 'duration of each', count, 5)
  .parse()
  .opts();

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const table = new Table({ head: ['median', 'ours', 'beside', 'ratio'], style: { head: [], border: [] } });

await withStack({ env: { FLAKY_CALL: 'off' }, say: print }, async ({ addresses }, folder) => {
  const env = { ...addresses, FLAKY_CALL: 'off', LOG_LEVEL: 'warn' };
  const port = await freePort();
  for (const [name, start] of [
    ['api', (built?: string) => startApi({ folder, built, name: 'measured', port, env })],
    ['worker', (built?: string) => startWorker({ folder, built, name: 'measured', env })],
  ] as const) {
    const [built, sources] = await inTurns([() => begin(() => start(`${folder}/dist`)), () => begin(() => start())]);
    for (const what of ['ms', 'MB'] as const) {
      const [ours = 0, theirs = 0] = [built, sources].map((some) => median((some ?? []).map((one) => one[what])));
      const label =
        what === 'ms' ? `${name}: until it ${name === 'api' ? 'listens' : 'polls'}` : `${name}: memory at rest`;
      table.push([
        label,
        `${ours.toFixed(0)} ${what}`,
        `sources ${theirs.toFixed(0)} ${what}`,
        (ours / theirs).toFixed(2),
      ]);
    }
  }

  const barePort = await freePort();
  const bare = await startProcess(folder, {
    name: 'bare-api',
    command: process.execPath,
    args: [fileURLToPath(new URL('bare-api.ts', import.meta.url))],
    env: { ...process.env, PORT: `${barePort}` },
    ipc: true,
  });
  const refused = (url: string) => () =>
    load({ url: `${url}/orders/o-1/start`, method: 'POST', body: INVALID_START, expected: 422 });
  const [ours = [], theirs = []] = await inTurns([refused(addresses.API_URL), refused(`http://127.0.0.1:${barePort}`)]);
  await bare.stop();
  row('POST …/start that is refused with 422', median(ours), 'bare Hono', median(theirs));

  const order_id = await ended(addresses.API_URL);
  const url = `${addresses.API_URL}/orders/${order_id}`;
  const [status = [], view = []] = await inTurns([() => load({ url: `${url}/status` }), () => load({ url })]);
  row('GET …/status of an ended order', median(status));
  row('GET /orders/{id} of it', median(view));
});
print(table.toString());

/** Runs the sides one after the other, `turns` times; returns the results of each. */
async function inTurns<T>(sides: (() => Promise<T>)[]): Promise<T[][]> {
  const results: T[][] = sides.map(() => []);
  for (let turn = 0; turn < turns; turn += 1) for (const [at, side] of sides.entries()) results[at]?.push(await side());
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

function row(what: string, ours: number, name?: string, theirs?: number): void {
  const beside = theirs === undefined ? ['', ''] : [`${name} ${theirs.toFixed(0)}/s`, (ours / theirs).toFixed(2)];
  table.push([what, `${ours.toFixed(0)}/s`, ...beside]);
}
