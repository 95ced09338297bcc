/** `npm run demo`: runs sample orders through the whole product and checks that each ended as its file says. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isTerminal, type TerminalState } from '@trellis/contracts/states-and-steps';
import Table from 'cli-table3';
import ora from 'ora';
import { violationsIn } from './audit.ts';
import { type DemoCommand, readSampleOrders, type SampleOrder } from './demo-file.ts';
import { print, script } from './options.ts';
import { accepted, createShopper, type Shopper } from './shopper.ts';
import { type Stack, withStack } from './stack/stack.ts';

interface Outcome {
  order: SampleOrder;
  ended: string;
  seconds: number;
  /** What differs from the file; empty when nothing does. */
  problems: string[];
}

const SAMPLE_ORDERS = fileURLToPath(new URL('orders.yaml', import.meta.url));
/** Longer than an order's budget of 15 s, which a refund may exceed. */
const GIVE_UP_AFTER_MS = 40_000;
/** Pause between two starts, so that the orders do not overload the machine. */
const START_EVERY_MS = 120;

const cli = script('npm run demo', 'Run sample orders through a throw-away stack and check how each ends.')
  .argument('[file]', 'sample orders, YAML or JSON (default: local/orders.yaml)')
  .option('--edge', 'send the orders through the API on the edge runtime')
  .parse();

const spinner = ora();
const say = (line: string) => {
  if (spinner.isSpinning) spinner.clear();
  print(line);
};

try {
  const [file = SAMPLE_ORDERS] = cli.processedArgs;
  process.exitCode = (await demo(file, cli.opts().edge ?? false)) ? 0 : 1;
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
// Connections kept alive would delay the exit.
process.exit();

async function demo(path: string, edge: boolean): Promise<boolean> {
  const orders = await readSampleOrders(path);
  say(`Starting Temporal, SQL, worker and API on free ports${edge ? ', on the edge runtime too' : ''}…`);
  return withStack({ edge, say }, async ({ addresses, tokens }) => {
    const { API_URL, EDGE_URL = API_URL, TEMPORAL_ADDRESS, TEMPORAL_UI_URL, DATABASE_URL } = addresses;
    say(
      TEMPORAL_UI_URL
        ? `Temporal's UI: ${TEMPORAL_UI_URL}   API: ${EDGE_URL}`
        : `Temporal: ${TEMPORAL_ADDRESS}   API: ${EDGE_URL}`,
    );
    const outcomes = await runAll(orders, EDGE_URL, tokens);
    return report(outcomes, await violationsIn(DATABASE_URL));
  });
}

/** Runs all orders concurrently. */
async function runAll(orders: SampleOrder[], url: string, tokens: Stack['tokens']): Promise<Outcome[]> {
  const shoppers = {
    http: createShopper(url, { via: 'http', tokens }),
    trpc: createShopper(url, { via: 'trpc', tokens }),
  };
  const runs = new Map<string, Promise<Outcome>>();
  let ended = 0;
  const progress = () => `${ended} of ${orders.length} orders have ended`;
  spinner.start(progress());
  for (const [index, order] of orders.entries()) {
    const turn = sleep(index * START_EVERY_MS).then(() => runs.get(order.follows ?? ''));
    const run = turn.then(() => runOne(order, shoppers[order.via]));
    const reported = run.then((outcome) => {
      ended += 1;
      spinner.text = progress();
      if (!process.stdout.isTTY) say(`${progress()}: ${order.order_id} ${outcome.ended}`);
      return outcome;
    });
    runs.set(order.order_id, reported);
  }
  const outcomes = await Promise.all(runs.values());
  spinner.succeed(progress());
  return outcomes;
}

/** Runs one order from its start to its end, and sends its commands in between. */
async function runOne(order: SampleOrder, shopper: Shopper): Promise<Outcome> {
  const began = performance.now();
  const problems: string[] = [];
  const { via, follows, commands, expect, ...body } = order;
  try {
    const { run_id } = accepted(await shopper.start(body));
    const sent = commands.map(async (command) => {
      await sleep(command.after_ms);
      problems.push(...(await send(command, body, shopper, run_id)));
    });
    const state = await terminalStateOf(order.order_id, shopper);
    const seconds = (performance.now() - began) / 1000;
    await Promise.all(sent);
    problems.push(...(await differences(order, state, shopper)));
    return { order, ended: state, seconds, problems };
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
    return { order, ended: 'unknown', seconds: (performance.now() - began) / 1000, problems };
  }
}

/** Sends a command, or the start again. Returns what differs from the answer that the file expects. */
async function send(
  command: DemoCommand,
  body: Parameters<Shopper['start']>[0],
  shopper: Shopper,
  runId: string,
): Promise<string[]> {
  const answer =
    command.send === 'start'
      ? await shopper.start(command.items ? { ...body, items: command.items } : body)
      : await shopper.command(body.order_id, command.send, command.input);
  if ('run_id' in answer && answer.run_id !== runId) return ['starting it again created a second run'];
  const got = answer.said === 'refused' ? answer.code : answer.said === 'lost' ? answer.message : 'accepted';
  const expected = command.refused ?? 'accepted';
  return got === expected ? [] : [`${command.send}: ${got} instead of ${expected}`];
}

async function terminalStateOf(orderId: string, shopper: Shopper): Promise<TerminalState> {
  const giveUp = performance.now() + GIVE_UP_AFTER_MS;
  while (performance.now() < giveUp) {
    const { state } = await shopper.status(orderId);
    if (isTerminal(state)) return state;
    await sleep(300);
  }
  throw new Error(`has not ended after ${GIVE_UP_AFTER_MS / 1000} s`);
}

async function differences(
  { order_id, expect }: SampleOrder,
  state: TerminalState,
  shopper: Shopper,
): Promise<string[]> {
  const view = await shopper.get(order_id);
  if (!view) return ['its row is missing'];
  const parcel = view.shipments.find((shipment) => shipment.status === 'dispatched')?.payload as
    | { address: { city: string } }
    | undefined;
  const differs = (what: string, got: unknown, expected: unknown) =>
    expected === undefined || got === expected ? [] : [`${what}${got} instead of ${expected}`];
  return [
    ...differs('', state, expect.state),
    ...differs('reason ', view.reason, expect.reason),
    ...differs('shipped to ', parcel?.address.city, expect.ships_to),
  ];
}

function report(outcomes: Outcome[], violations: string[]): boolean {
  const table = new Table({
    head: ['order', 'via', 'ended', 'seconds', 'as expected'],
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
  say(
    violations.length === 0
      ? 'The books agree: every cent and every parcel is accounted for.\nThe audit trail is unbroken.'
      : violations.join('\n'),
  );
  return right === outcomes.length && violations.length === 0;
}
