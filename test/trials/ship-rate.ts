/** `npm run ship-rate -- --orders N --rate R [--cancel 0.1] [--approve-after 800]`: how many orders ship under flaky_call, how fast, and whether the money adds up. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { isTerminal } from '@trellis/contracts/lifecycle';
import { violations } from '@trellis/local/books';
import { createTypedShop, type Shop, ShopError, startWhenAdmitted } from '@trellis/local/shopper';
import { startStack, throwAwayFolder } from '@trellis/local/stack/stack';
import * as v from 'valibot';
import { actionsSoFar, type Cost, costsOf } from './cost.ts';

/** A cancel, if any, is sent at a random moment up to this long after the approval. */
const CANCEL_WITHIN_MS = 1_500;
const GIVE_UP_AFTER_MS = 60_000;

interface Measured {
  orderId: string;
  state: string;
  /** Tries to ship. */
  tries: number;
  canceled: boolean;
  /** Milliseconds: by the client's clock at the start, by the database's at the end. Both run on this machine. */
  startToEnd: number;
  approveToEnd: number;
  approveAnswer: number;
  queued: boolean;
  /** Orders that were under way when the approval was sent. */
  inFlight: number;
  /** Times it was turned away before it was admitted. */
  refusals: number;
}

const say = (line: string) => process.stdout.write(`${line}\n`);
const fraction = v.pipe(v.string(), v.transform(Number), v.number(), v.minValue(0), v.maxValue(1));
const milliseconds = v.pipe(v.string(), v.transform(Number), v.number(), v.minValue(0));
const positive = v.pipe(v.string(), v.transform(Number), v.number(), v.gtValue(0));

const { values } = parseArgs({
  options: {
    orders: { type: 'string', default: '200' },
    rate: { type: 'string', default: '4' },
    cancel: { type: 'string', default: '0' },
    'approve-after': { type: 'string', default: '800' },
  },
});
const options = v.parse(
  v.object({ orders: positive, rate: positive, cancel: fraction, 'approve-after': milliseconds }),
  values,
);

let underWay = 0;

const { folder, remove } = await throwAwayFolder(say);
const stack = await startStack({ folder, persistent: false, say });
try {
  const shop = createTypedShop(stack.addresses.API_URL);
  const runs = Array.from({ length: options.orders }, async (_, n) => {
    await sleep((n * 1000) / options.rate);
    return measure(`rate-${n}`, shop, Math.random() < options.cancel);
  });
  const orders = await Promise.all(runs);
  const shipped = orders.filter(({ state }) => state === 'shipped');
  const costs = await costsOf(stack.addresses.TEMPORAL_ADDRESS, shipped);
  report(orders, costs, await violations(stack.addresses.DATABASE_URL));
  say(
    `actions per order    ${((await actionsSoFar(stack.addresses.TEMPORAL_METRICS_URL)) / orders.length).toFixed(2)}`,
  );
} finally {
  await stack.stop();
  await remove();
}
process.exit();

async function measure(order_id: string, shop: Shop, cancel: boolean): Promise<Measured> {
  const { refusals, at: started } = await startWhenAdmitted(shop, {
    order_id,
    payment_id: `pay-${order_id}`,
    address: { line1: '1 Main St', city: 'Chicago' },
    items: [{ sku: 'ABC', qty: 1 }],
  });
  underWay += 1;
  await sleep(options['approve-after']);
  const approved = Date.now();
  const inFlight = underWay;
  const answer = await shop.approve(order_id).catch((error: ShopError) => error);
  const approveAnswer = Date.now() - approved;
  let canceled = false;
  if (cancel) {
    await sleep(Math.random() * CANCEL_WITHIN_MS);
    const answer = await shop.cancel(order_id, 'changed my mind').catch((error: ShopError) => error);
    canceled = !(answer instanceof ShopError) && 'changed' in answer;
  }
  for (;;) {
    // The order's row costs Temporal nothing, unlike a status that asks the workflow.
    const order = await shop.get(order_id).catch(() => undefined);
    const end = Date.now();
    if ((order && isTerminal(order.state)) || end - started > GIVE_UP_AFTER_MS) {
      underWay -= 1;
      const closed = order && isTerminal(order.state) ? Date.parse(order.updated_at) : Number.POSITIVE_INFINITY;
      return {
        orderId: order_id,
        state: order?.state ?? 'unknown',
        tries: order?.shipments.length ?? 0,
        canceled,
        startToEnd: closed - started,
        approveToEnd: closed - approved,
        approveAnswer,
        queued: 'queued' in answer,
        inFlight,
        refusals,
      };
    }
    await sleep(500);
  }
}

function report(orders: Measured[], costs: Cost[], broken: string[]): void {
  // An order whose cancel was accepted isn't meant to ship; every other one is.
  const meant = orders.filter((order) => !order.canceled);
  const inTime = meant.filter((order) => order.state === 'shipped' && order.startToEnd <= 15_000);
  const [low, high] = wilson(inTime.length, meant.length);
  const percent = (share: number) => `${(share * 100).toFixed(2)} %`;
  say(
    `shipped within 15 s: ${inTime.length} of ${meant.length}, ${percent(inTime.length / meant.length)} (95 %: ${percent(low)} to ${percent(high)})`,
  );
  const shipped = meant.filter((order) => order.state === 'shipped');
  say(`start → shipped      ${quantiles(shipped.map((order) => order.startToEnd))}`);
  say(`approve → shipped    ${quantiles(shipped.map((order) => order.approveToEnd))}`);
  say(`approve → answer     ${quantiles(orders.map((order) => order.approveAnswer))}`);
  say(
    `orders in flight     ${quantiles(
      orders.map((order) => order.inFlight),
      '',
    )}`,
  );
  say(`turned away          ${orders.reduce((sum, order) => sum + order.refusals, 0)} times`);
  say(`approvals queued     ${orders.filter((order) => order.queued).length}`);
  say(
    `history events       ${quantiles(
      costs.map((cost) => cost.events),
      '',
    )}`,
  );
  say(
    `workflow tasks       ${quantiles(
      costs.map((cost) => cost.workflowTasks),
      '',
    )}`,
  );
  const outcomes = Object.entries(Object.groupBy(orders, (order) => order.state));
  say(`outcomes             ${outcomes.map(([state, group]) => `${state} ${group?.length}`).join(', ')}`);
  say(
    `cancels accepted     ${orders.length - meant.length}, of which ended otherwise: ${orders.filter((order) => order.canceled && order.state !== 'canceled').length}`,
  );
  say(broken.length === 0 ? 'both sides’ books agree' : broken.join('\n'));
  process.exitCode = broken.length === 0 ? 0 : 1;
}

function quantiles(values: number[], unit = ' ms'): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
  return `p50 ${at(0.5)}${unit}, p95 ${at(0.95)}${unit}, p99 ${at(0.99)}${unit}, max ${at(1)}${unit}`;
}

/** Wilson's 95 % interval of a share, which is honest near 0 and 1. */
function wilson(hits: number, n: number): [number, number] {
  const z = 1.96;
  const p = hits / n;
  const center = p + z ** 2 / (2 * n);
  const margin = z * Math.sqrt((p * (1 - p)) / n + z ** 2 / (4 * n ** 2));
  const scale = 1 + z ** 2 / n;
  return [Math.max(0, (center - margin) / scale), Math.min(1, (center + margin) / scale)];
}
