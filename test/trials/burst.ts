/** `npm run burst`: more orders at once than the machine can ship in time, and how each of them ends. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { printAudit, violationsIn } from '@trellis/local/audit';
import { counts, milliseconds, print, script } from '@trellis/local/options';
import { accepted, createShopper, type Shopper } from '@trellis/local/shopper';
import { withStack } from '@trellis/local/stack/stack';
import Table from 'cli-table3';

interface Outcome {
  /** How many times the API answered BUSY before it admitted the order. */
  refusals: number;
  state: string;
  /** From the start that was admitted to the end, milliseconds. */
  took: number;
}

/** An admitted order's time from its start to its end. */
const BUDGET_MS = 15_000;
/** After this long an order counts as stuck, which stops the run. */
const STUCK_AFTER_MS = 120_000;

const { orders: sizes = [200, 500, 1000], approveAfter } = script(
  'npm run burst',
  'Start many orders at once and report how each ends.',
)
  .option('--orders <counts>', 'orders at once, one burst for each number (default: 200,500,1000)', counts)
  .option('--approve-after <ms>', 'pause between an order’s start and its approval', milliseconds, 800)
  .parse()
  .opts();

await withStack({ say: print }, async ({ addresses, tokens }) => {
  const shopper = createShopper(addresses.API_URL, { tokens });
  const table = new Table({
    head: [
      'at once',
      'admitted at once',
      'refusals (BUSY)',
      'shipped',
      'of them within 15 s',
      'slowest',
      'all done in',
    ],
    style: { head: [], border: [] },
  });
  for (const size of sizes) {
    const began = Date.now();
    const outcomes = await Promise.all(Array.from({ length: size }, (_, n) => runOne(shopper, `burst-${size}-${n}`)));
    const shipped = outcomes.filter(({ state }) => state === 'shipped');
    const inTime = shipped.filter(({ took }) => took <= BUDGET_MS);
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
  print(table.toString());
  printAudit(await violationsIn(addresses.DATABASE_URL));
});
process.exit();

async function runOne(shopper: Shopper, order_id: string): Promise<Outcome> {
  const started = await shopper.start({
    order_id,
    payment_id: `pay-${order_id}`,
    address: { line1: '1 Main St', city: 'Chicago' },
    items: [{ sku: 'ABC', qty: 1 }],
  });
  const { refusals, at } = accepted(started);
  await sleep(approveAfter);
  // The answer is not needed: without an approval the order expires.
  await shopper.command(order_id, 'approve', {});
  for (const end = Date.now() + STUCK_AFTER_MS; Date.now() < end; ) {
    await sleep(2_000);
    const order = await shopper.get(order_id).catch(() => undefined);
    if (order && isTerminal(order.state))
      return { refusals, state: order.state, took: Date.parse(order.updated_at) - at };
  }
  throw new Error(`${order_id} has not ended after ${STUCK_AFTER_MS / 1000} s`);
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
