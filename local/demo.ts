/** `npm run demo [-- FILE --edge]`: sample orders through the whole product, with `--edge` through its API on the edge runtime, and the proof that each ended as it must. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isTerminal, type TerminalState } from '@trellis/contracts/lifecycle';
import Table from 'cli-table3';
import ora from 'ora';
import { violations } from './books.ts';
import { type Command, readSampleOrders, type SampleOrder } from './demo-file.ts';
import { createHttpShop, createTypedShop, type Shop, ShopError, startWhenAdmitted } from './shopper.ts';
import { startStack, throwAwayFolder } from './stack/stack.ts';

interface Outcome {
  order: SampleOrder;
  ended: string;
  seconds: number;
  /** What differs from what the file says; empty when nothing does. */
  problems: string[];
}

const SAMPLE_ORDERS = fileURLToPath(new URL('orders.yaml', import.meta.url));
/** Ours: an order's own budget is fifteen seconds, but money outranks it. */
const GIVE_UP_AFTER_MS = 40_000;
/** Between two starts, so that the demo shows orders at work and not a machine at its limit. */
const START_EVERY_MS = 120;

const spinner = ora();
const say = (line: string) => {
  if (spinner.isSpinning) spinner.clear();
  process.stdout.write(`${line}\n`);
};

try {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { edge: { type: 'boolean', default: false } },
  });
  process.exitCode = (await demo(positionals[0] ?? SAMPLE_ORDERS, values.edge)) ? 0 : 1;
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
// A connection kept alive must not keep the process.
process.exit();

async function demo(path: string, edge: boolean): Promise<boolean> {
  const orders = await readSampleOrders(path);
  const { folder, remove } = await throwAwayFolder(say);
  say(`Starting Temporal, SQL, worker and API on free ports${edge ? ', on the edge runtime too' : ''}…`);
  const stack = await startStack({ folder, persistent: false, edge, say });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(
      signal,
      () =>
        void stack
          .stop()
          .then(remove)
          .finally(() => process.exit(130)),
    );
  try {
    const { API_URL, EDGE_URL = API_URL, TEMPORAL_UI_URL } = stack.addresses;
    say(`Temporal's UI: ${TEMPORAL_UI_URL}   API: ${EDGE_URL}`);
    const outcomes = await drive(orders, EDGE_URL);
    return report(outcomes, await violations(stack.addresses.DATABASE_URL));
  } finally {
    await stack.stop();
    await remove();
  }
}

/** Runs all orders side by side. */
async function drive(orders: SampleOrder[], url: string): Promise<Outcome[]> {
  const shops = { http: createHttpShop(url), trpc: createTypedShop(url) };
  const runs = new Map<string, Promise<Outcome>>();
  let ended = 0;
  const progress = () => `${ended} of ${orders.length} orders have ended`;
  spinner.start(progress());
  for (const [index, order] of orders.entries()) {
    const turn = sleep(index * START_EVERY_MS).then(() => runs.get(order.follows ?? ''));
    const run = turn.then(() => follow(order, shops[order.via]));
    const noted = run.then((outcome) => {
      ended += 1;
      spinner.text = progress();
      if (!process.stdout.isTTY) say(`${progress()}: ${order.order_id} ${outcome.ended}`);
      return outcome;
    });
    runs.set(order.order_id, noted);
  }
  const outcomes = await Promise.all(runs.values());
  spinner.succeed(progress());
  return outcomes;
}

/** One order from its start to its end, with its commands on the way. */
async function follow(order: SampleOrder, shop: Shop): Promise<Outcome> {
  const began = performance.now();
  const problems: string[] = [];
  const { via, follows, commands, expect, ...body } = order;
  try {
    const { run_id } = await startWhenAdmitted(shop, body);
    const sent = commands.map(async (command) => {
      await sleep(command.after_ms);
      problems.push(...(await send(command, body, shop, run_id)));
    });
    const state = await untilClosed(order.order_id, shop);
    const seconds = (performance.now() - began) / 1000;
    await Promise.all(sent);
    problems.push(...(await differences(order, state, shop)));
    return { order, ended: state, seconds, problems };
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
    return { order, ended: 'unknown', seconds: (performance.now() - began) / 1000, problems };
  }
}

/** Sends a command; answers what was wrong with the answer. */
async function send(
  command: Command,
  body: Parameters<Shop['start']>[0],
  shop: Shop,
  runId: string,
): Promise<string[]> {
  const { order_id } = body;
  let code: string | undefined;
  try {
    if (command.send === 'approve') await shop.approve(order_id);
    if (command.send === 'cancel') await shop.cancel(order_id, command.reason);
    if (command.send === 'address') await shop.address(order_id, command.address);
    if (command.send === 'start') {
      const { run_id } = await shop.start(command.items ? { ...body, items: command.items } : body);
      if (run_id !== runId) return ['a second start made a second run'];
    }
  } catch (error) {
    if (!(error instanceof ShopError)) throw error;
    code = error.code;
  }
  return code === command.refused
    ? []
    : [`${command.send}: ${code ?? 'accepted'} instead of ${command.refused ?? 'accepted'}`];
}

async function untilClosed(orderId: string, shop: Shop): Promise<TerminalState> {
  const giveUp = performance.now() + GIVE_UP_AFTER_MS;
  while (performance.now() < giveUp) {
    const { state } = await shop.status(orderId);
    if (isTerminal(state)) return state;
    await sleep(300);
  }
  throw new Error(`has not ended after ${GIVE_UP_AFTER_MS / 1000} s`);
}

async function differences({ order_id, expect }: SampleOrder, state: TerminalState, shop: Shop): Promise<string[]> {
  const { reason, shipments } = await shop.get(order_id);
  const parcel = shipments.find((shipment) => shipment.status === 'dispatched')?.payload as
    | { address: { city: string } }
    | undefined;
  return [
    ...(state === expect.state ? [] : [`${state} instead of ${expect.state}`]),
    ...(expect.reason === undefined || reason === expect.reason
      ? []
      : [`reason ${reason} instead of ${expect.reason}`]),
    ...(expect.ships_to === undefined || parcel?.address.city === expect.ships_to
      ? []
      : [`shipped to ${parcel?.address.city} instead of ${expect.ships_to}`]),
  ];
}

function report(outcomes: Outcome[], broken: string[]): boolean {
  const table = new Table({
    head: ['order', 'via', 'ended', 'seconds', 'as it must'],
    style: { head: [], border: [] },
  });
  for (const { order, ended, seconds, problems } of outcomes)
    table.push([
      order.order_id,
      order.via,
      ended,
      seconds.toFixed(1),
      problems.length === 0 ? 'yes' : problems.join('; '),
    ]);
  say(table.toString());
  const right = outcomes.filter((outcome) => outcome.problems.length === 0).length;
  say(`${right} of ${outcomes.length} orders ended as the file says.`);
  say(broken.length === 0 ? 'The books agree: every cent and every parcel is accounted for.' : broken.join('\n'));
  return right === outcomes.length && broken.length === 0;
}
