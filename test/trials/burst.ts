/** `npm run burst -- --orders 200,500,1000 [--approve-after 800]`: more orders at once than the machine can ship in time, and what becomes of each. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { isTerminal } from '@trellis/contracts/lifecycle';
import { reportBooks } from '@trellis/local/books';
import { createTypedShop, type Shop, startWhenAdmitted } from '@trellis/local/shopper';
import { startStack, throwAwayFolder } from '@trellis/local/stack/stack';
import Table from 'cli-table3';
import * as v from 'valibot';

interface Outcome {
  /** Times it was turned away before it was admitted. */
  refusals: number;
  state: string;
  /** From the start that was admitted to the end, milliseconds. */
  took: number;
}

const PROMISE_MS = 15_000;
/** Whoever takes this long has broken more than the promise. */
const ENDS_WITHIN_MS = 120_000;
const milliseconds = v.pipe(v.string(), v.transform(Number), v.number(), v.minValue(0));
const sizes = v.pipe(
  v.string(),
  v.transform((list) => list.split(',').map(Number)),
  v.array(v.pipe(v.number(), v.integer(), v.minValue(1))),
);

const say = (line: string) => process.stdout.write(`${line}\n`);
const { values } = parseArgs({
  options: {
    orders: { type: 'string', default: '200,500,1000' },
    'approve-after': { type: 'string', default: '800' },
  },
});
const options = v.parse(v.object({ orders: sizes, 'approve-after': milliseconds }), values);

const { folder, remove } = await throwAwayFolder(say);
const stack = await startStack({ folder, persistent: false, say });
try {
  const shop = createTypedShop(stack.addresses.API_URL);
  const table = new Table({
    head: [
      'at once',
      'admitted at once',
      'turned away, times',
      'shipped',
      'of them within 15 s',
      'slowest',
      'all done in',
    ],
    style: { head: [], border: [] },
  });
  for (const size of options.orders) {
    const began = Date.now();
    const outcomes = await Promise.all(Array.from({ length: size }, (_, n) => oneOrder(shop, `burst-${size}-${n}`)));
    const shipped = outcomes.filter(({ state }) => state === 'shipped');
    const inTime = shipped.filter(({ took }) => took <= PROMISE_MS);
    if (inTime.length < size) process.exitCode = 1;
    table.push([
      size,
      outcomes.filter(({ refusals }) => refusals === 0).length,
      outcomes.reduce((sum, { refusals }) => sum + refusals, 0),
      shipped.length,
      inTime.length,
      seconds(Math.max(...outcomes.map(({ took }) => took))),
      seconds(Date.now() - began),
    ]);
  }
  say(table.toString());
  await reportBooks(stack.addresses.DATABASE_URL, say);
} finally {
  await stack.stop();
  await remove();
}
process.exit();

async function oneOrder(shop: Shop, order_id: string): Promise<Outcome> {
  const { refusals, at } = await startWhenAdmitted(shop, {
    order_id,
    payment_id: `pay-${order_id}`,
    address: { line1: '1 Main St', city: 'Chicago' },
    items: [{ sku: 'ABC', qty: 1 }],
  });
  await sleep(options['approve-after']);
  // A refusal shows in how the order ends.
  await shop.approve(order_id).catch(() => undefined);
  for (const end = Date.now() + ENDS_WITHIN_MS; Date.now() < end; ) {
    await sleep(2_000);
    const order = await shop.get(order_id).catch(() => undefined);
    if (order && isTerminal(order.state))
      return { refusals, state: order.state, took: Date.parse(order.updated_at) - at };
  }
  throw new Error(`${order_id} does not come to its end`);
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
