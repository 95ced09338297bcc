/** `npm run ship-rate`: the share of orders that ship in time under flaky_call, the latencies, and the audit of the money. */
import { setTimeout as sleep } from 'node:timers/promises';
import { recordedId } from '@trellis/contracts/id';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { printAudit, violationsIn } from '@trellis/local/audit';
import { count, fraction, milliseconds, positive, print, script, whole } from '@trellis/local/options';
import { accepted, createShopper, type Shopper } from '@trellis/local/shopper';
import { SHOP } from '@trellis/local/stack/callers';
import { type Stack, withStack } from '@trellis/local/stack/stack';
import { actionsSoFar, type Cost, costsOf } from './cost.ts';

/** A cancel, if any, is sent at a random moment up to this long after the approval. */
const CANCEL_WITHIN_MS = 1_500;
const GIVE_UP_AFTER_MS = 60_000;
/** How long a call is repeated while a server is restarted. */
const RETRY_FOR_MS = 60_000;

interface Measured {
  orderId: string;
  state: string;
  /** Shipping attempts. */
  attempts: number;
  /** Whether a cancel was accepted. */
  canceled: boolean;
  /** Milliseconds: by this process's clock at the start, by the database's at the end. Both run on this machine. */
  startToEnd: number;
  approveToEnd: number;
  approveAnswer: number;
  /** Whether the answer to the approval was 202. */
  queued: boolean;
  /** Orders under way when the approval was sent. */
  inFlight: number;
  /** How many times the API answered BUSY before it admitted the order. */
  refusals: number;
}

const options = script(
  'npm run ship-rate',
  'Start orders at a steady rate, and measure how many ship within 15 s, and how fast.',
)
  .option('--orders <count>', 'orders in all', count, 200)
  .option('--rate <number>', 'orders a second', positive, 4)
  .option('--cancel <share>', 'share of orders that are canceled, from 0 to 1', fraction, 0)
  .option('--approve-after <ms>', 'pause between an order’s start and its approval', milliseconds, 800)
  .option('--kill <times>', 'how often the worker is killed meanwhile, and started again at once', whole, 0)
  .parse()
  .opts();

let underWay = 0;

await withStack({ say: print }, async (stack) => {
  const { addresses, tokens } = stack;
  const shopper = createShopper(addresses.API_URL, { retryForMs: RETRY_FOR_MS, tokens });
  const runs = Array.from({ length: options.orders }, async (_, n) => {
    await sleep((n * 1000) / options.rate);
    return measure(`rate-${n}`, shopper, Math.random() < options.cancel);
  });
  const [orders] = await Promise.all([Promise.all(runs), killWorker(stack, options.kill)]);
  const shipped = orders.filter(({ state }) => state === 'shipped');
  if (orders.some(({ startToEnd }) => !Number.isFinite(startToEnd))) process.exitCode = 1;
  const recorded = shipped.map((order) => ({ ...order, orderId: recordedId(tokens ? SHOP : '', order.orderId) }));
  report(orders, await costsOf(addresses, recorded));
  printAudit(await violationsIn(addresses.DATABASE_URL));
  const { TEMPORAL_METRICS_URL } = addresses;
  if (TEMPORAL_METRICS_URL)
    print(`actions per order    ${((await actionsSoFar(TEMPORAL_METRICS_URL)) / orders.length).toFixed(2)}`);
});
process.exit();

async function measure(order_id: string, shopper: Shopper, cancel: boolean): Promise<Measured> {
  const started = await shopper.start({
    order_id,
    payment_id: `pay-${order_id}`,
    address: { line1: '1 Main St', city: 'Chicago' },
    items: [{ sku: 'ABC', qty: 1 }],
  });
  const { refusals, at: startedAt } = accepted(started);
  underWay += 1;
  await sleep(options.approveAfter);
  const approvedAt = Date.now();
  const inFlight = underWay;
  const approval = await shopper.command(order_id, 'approve', {});
  const approveAnswer = Date.now() - approvedAt;
  let canceled = false;
  if (cancel) {
    await sleep(Math.random() * CANCEL_WITHIN_MS);
    const answer = await shopper.command(order_id, 'cancel', { reason: 'changed my mind' });
    canceled = answer.said === 'accepted';
  }
  for (;;) {
    // Reading the order costs Temporal nothing; a status would query the workflow.
    const order = await shopper.get(order_id).catch(() => undefined);
    const now = Date.now();
    if ((order && isTerminal(order.state)) || now - startedAt > GIVE_UP_AFTER_MS) {
      underWay -= 1;
      const endedAt = order && isTerminal(order.state) ? Date.parse(order.updated_at) : Number.POSITIVE_INFINITY;
      return {
        orderId: order_id,
        state: order?.state ?? 'unknown',
        attempts: order?.shipments.length ?? 0,
        canceled,
        startToEnd: endedAt - startedAt,
        approveToEnd: endedAt - approvedAt,
        approveAnswer,
        queued: approval.said === 'queued',
        inFlight,
        refusals,
      };
    }
    await sleep(500);
  }
}

/** Kills the worker at equal intervals while orders are sent, and starts it again. */
async function killWorker(stack: Stack, times: number): Promise<void> {
  let { worker } = stack;
  for (let n = 0; n < times; n += 1) {
    await sleep((options.orders * 1000) / options.rate / (times + 1));
    process.kill(worker.pid, 'SIGKILL');
    await worker.exited;
    worker = await stack.startWorker('worker');
  }
}

function report(orders: Measured[], costs: Cost[]): void {
  // Every order is meant to ship unless its cancel was accepted.
  const meant = orders.filter((order) => !order.canceled);
  const inTime = meant.filter((order) => order.state === 'shipped' && order.startToEnd <= 15_000);
  const [low, high] = wilson(inTime.length, meant.length);
  const percent = (share: number) => `${(share * 100).toFixed(2)} %`;
  print(
    `shipped within 15 s: ${inTime.length} of ${meant.length}, ${percent(inTime.length / meant.length)} (95 %: ${percent(low)} to ${percent(high)})`,
  );
  const shipped = meant.filter((order) => order.state === 'shipped');
  print(`start → shipped      ${quantiles(shipped.map((order) => order.startToEnd))}`);
  print(`approve → shipped    ${quantiles(shipped.map((order) => order.approveToEnd))}`);
  print(`approve → answer     ${quantiles(orders.map((order) => order.approveAnswer))}`);
  print(
    `orders in flight     ${quantiles(
      orders.map((order) => order.inFlight),
      '',
    )}`,
  );
  print(`refusals (BUSY)      ${orders.reduce((sum, order) => sum + order.refusals, 0)}`);
  print(`approvals queued     ${orders.filter((order) => order.queued).length}`);
  print(
    `history events       ${quantiles(
      costs.map((cost) => cost.events),
      '',
    )}`,
  );
  print(
    `workflow tasks       ${quantiles(
      costs.map((cost) => cost.workflowTasks),
      '',
    )}`,
  );
  const outcomes = Object.entries(Object.groupBy(orders, (order) => order.state));
  print(`outcomes             ${outcomes.map(([state, group]) => `${state} ${group?.length}`).join(', ')}`);
  print(
    `cancels accepted     ${orders.length - meant.length}, of which ended otherwise: ${orders.filter((order) => order.canceled && order.state !== 'canceled').length}`,
  );
}

function quantiles(values: number[], unit = ' ms'): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
  return `p50 ${at(0.5)}${unit}, p95 ${at(0.95)}${unit}, p99 ${at(0.99)}${unit}, max ${at(1)}${unit}`;
}

/** Wilson's 95 % interval of a share, which stays correct near 0 and 1. */
function wilson(hits: number, n: number): [number, number] {
  const z = 1.96;
  const p = hits / n;
  const center = p + z ** 2 / (2 * n);
  const margin = z * Math.sqrt((p * (1 - p)) / n + z ** 2 / (4 * n ** 2));
  const scale = 1 + z ** 2 / n;
  return [Math.max(0, (center - margin) / scale), Math.min(1, (center + margin) / scale)];
}
