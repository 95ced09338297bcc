/** `npm run races`: commands sent around the moments that decide an order, on real servers. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { createOrdersClient, type OrdersClient, orderErrorOf } from '@trellis/client';
import type { Command } from '@trellis/contracts/commands';
import type { Address, StartInput } from '@trellis/contracts/order';
import { POLICIES } from '@trellis/contracts/policy';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { violationsIn } from '@trellis/local/audit';
import { count, positive, print, script } from '@trellis/local/options';
import {
  type Answer,
  type CommandInput,
  createShopper,
  type OrderView,
  type Shopper,
  withAllEvents,
} from '@trellis/local/shopper';
import { withStack } from '@trellis/local/stack/stack';
import Table from 'cli-table3';
import { brokenGuarantees } from './guarantees.ts';

/** Sends the race's commands to an order that has been started; returns their answers. */
type Racers = (race: { order: StartInput; delay: number; send: Send }) => Promise<Answer[]>;
type Send = <C extends Command>(command: C, input: CommandInput<C>, options?: { key?: string }) => Promise<Answer>;

interface Race {
  name: string;
  /** Milliseconds, spread evenly over the orders; times SLOWDOWN under flaky_call, where everything takes longer. */
  delays: [from: number, to: number];
  address?: Address;
  racers: Racers;
}

/** The result of one order of a race. */
interface RaceResult {
  race: string;
  outcome: string;
  broken: string[];
}

const CHICAGO = { line1: '1 Main St', city: 'Chicago' };
const UNREACHABLE = { line1: '1 Main St', city: 'Unreachable' };
const BOSTON = { line1: '2 Birch', city: 'Boston' };
const SAME_STARTS = 200;
const SLOWDOWN = 5;
/** Far longer than an order takes. */
const SEEN_WITHIN_MS = 60_000;
/** A call that takes longer counts as lost. */
const CALL_TIMEOUT_MS = 6_000;

const RACES: Race[] = [
  {
    name: 'cancel against approve',
    delays: [-40, 40],
    async racers({ delay, send }) {
      await sleep(500);
      return together([() => send('approve', {}), Math.max(0, -delay)], [() => send('cancel', {}), Math.max(0, delay)]);
    },
  },
  {
    name: 'cancel against charge',
    delays: [0, 60],
    racers: ({ delay, send }) => afterApproval(send, delay, () => send('cancel', {})),
  },
  {
    name: 'cancel against dispatch',
    delays: [20, 150],
    racers: ({ delay, send }) => afterApproval(send, delay, () => send('cancel', {})),
  },
  {
    name: 'cancel against mark_shipped',
    delays: [50, 250],
    racers: ({ delay, send }) => afterApproval(send, delay, () => send('cancel', {})),
  },
  {
    name: 'approve at the window’s last moment',
    delays: [-120, 80],
    async racers({ order, delay, send }) {
      const validated = await momentOf(order.order_id, 'order_validated');
      await sleep(validated + POLICIES.exercise.review_ms + delay - Date.now());
      return [await send('approve', {})];
    },
  },
  {
    name: 'address against dispatch',
    delays: [0, 150],
    racers: ({ delay, send }) => afterApproval(send, delay, () => send('address', { address: BOSTON })),
  },
  {
    name: 'corrected address against the next shipping attempt',
    delays: [50, 600],
    address: UNREACHABLE,
    racers: ({ delay, send }) => afterApproval(send, delay, () => send('address', { address: BOSTON })),
  },
  {
    name: 'every command against the end',
    delays: [20, 250],
    racers: ({ delay, send }) =>
      afterApproval(
        send,
        delay,
        () => send('approve', {}),
        () => send('address', { address: BOSTON }),
        () => send('cancel', {}),
      ),
  },
  {
    name: 'one cancel sent ten times at once',
    delays: [0, 200],
    racers({ delay, send }) {
      const key = randomUUID();
      return afterApproval(send, delay, ...Array.from({ length: 10 }, () => () => send('cancel', {}, { key })));
    },
  },
];

const options = script(
  'npm run races',
  'Send commands around the moments that decide an order, without and with flaky_call, and check the guarantees.',
)
  .option('--orders <count>', 'orders of each race', count, 200)
  .option('--rate <number>', 'orders a second', positive, 5)
  .parse()
  .opts();

/** Reads orders. */
let client: OrdersClient;
let starter: OrdersClient;
let shopper: Shopper;
const results: RaceResult[] = [];
// Without faults the delays hit the moments exactly; with faults a hanging call moves the moments.
for (const faults of ['off', 'on']) {
  await withStack({ env: { FLAKY_CALL: faults }, say: print }, async ({ addresses, tokens }) => {
    client = createOrdersClient(addresses.API_URL, tokens && { token: tokens.office });
    starter = createOrdersClient(addresses.API_URL, tokens && { token: tokens.checkout });
    shopper = createShopper(addresses.API_URL, { timeoutMs: CALL_TIMEOUT_MS, tokens });
    const title = (name: string) => `${name}, flaky_call ${faults}`;
    // In turns, so that the machine is not idle while the last orders of each race end.
    const running = Array.from({ length: options.orders }, (_, n) =>
      RACES.map(async (race, turn) => {
        const [from, to] = race.delays.map((delay) => delay * (faults === 'on' ? SLOWDOWN : 1)) as [number, number];
        await sleep(((n * RACES.length + turn) * 1000) / options.rate);
        const result = await runOnce(race, from + ((to - from) * n) / options.orders);
        return { ...result, race: title(race.name) };
      }),
    );
    results.push(...(await Promise.all(running.flat())));
    results.push({ ...(await sameStarts()), race: title(`${SAME_STARTS} starts of one order`) });
    results.push({ ...(await twoBodies()), race: title(`${SAME_STARTS} starts with two bodies`) });
    const broken = await violationsIn(addresses.DATABASE_URL);
    results.push({ race: title('audit'), outcome: broken.length === 0 ? 'no violation' : 'violations', broken });
  });
}
process.exit(report(results) ? 0 : 1);

async function runOnce(race: Race, delay: number): Promise<Omit<RaceResult, 'race'>> {
  const order = anOrder(race.address);
  const started = await shopper.start(order);
  if (started.said !== 'accepted') {
    const outcome = `start ${started.said}`;
    return { outcome, broken: [`${order.order_id}: ${outcome}: ${started.message}`] };
  }
  const send: Send = (command, input, options) => shopper.command(order.order_id, command, input, options);
  const answers = await race.racers({ order, delay, send });
  const view = await endOf(order.order_id);
  const answered = answers.map(textOf).filter((text) => text !== 'approve accepted');
  const money = view.payments.map(({ status }) => status)[0] ?? 'never charged';
  return {
    outcome: `${[...new Set(answered)].join(' + ')} → ${view.state}, ${money}`,
    broken: brokenGuarantees(view, answers),
  };
}

function textOf(answer: Answer): string {
  return `${answer.command} ${answer.said === 'refused' ? answer.code : answer.said}`;
}

/** Approves, and sends the others `delay` milliseconds after the answer. */
async function afterApproval(send: Send, delay: number, ...others: (() => Promise<Answer>)[]): Promise<Answer[]> {
  await sleep(500);
  const approved = await send('approve', {});
  return [approved, ...(await together(...others.map((other) => [other, delay] as const)))];
}

function together(...racers: (readonly [() => Promise<Answer>, number])[]): Promise<Answer[]> {
  return Promise.all(racers.map(([run, delay]) => sleep(delay).then(run)));
}

function anOrder(address = CHICAGO): StartInput {
  const order_id = `race-${randomUUID()}`;
  return { order_id, payment_id: `pay-${order_id}`, address, items: [{ sku: 'ABC', qty: 1 }] };
}

function endOf(order_id: string): Promise<OrderView> {
  return seen(order_id, (view) => (isTerminal(view.state) ? view : undefined), 500);
}

/** When the order's event was written, epoch milliseconds by the database's clock, which is this machine's. */
async function momentOf(order_id: string, type: string): Promise<number> {
  const { ts } = await seen(order_id, ({ events }) => events.find((event) => event.type === type), 100);
  return Date.parse(ts);
}

/** Reads an order until `look` finds something in it. One that has just been accepted has no row yet. */
async function seen<T>(order_id: string, look: (view: OrderView) => T | undefined, every: number): Promise<T> {
  for (const end = Date.now() + SEEN_WITHIN_MS; Date.now() < end; await sleep(every)) {
    const page = (events_after: string | undefined) => client.get.query({ order_id, events_after });
    const view = await withAllEvents(page).catch(() => undefined);
    const found = view && look(view);
    if (found !== undefined) return found;
  }
  throw new Error(`${order_id}: what the race waits for did not happen within ${SEEN_WITHIN_MS / 1000} s`);
}

async function sameStarts(): Promise<Omit<RaceResult, 'race'>> {
  const order = anOrder();
  const answers = await Promise.allSettled(Array.from({ length: SAME_STARTS }, () => starter.start.mutate(order)));
  const runs = new Set(answers.map((answer) => (answer.status === 'fulfilled' ? answer.value.run_id : 'refused')));
  await shopper.command(order.order_id, 'approve', {});
  const view = await endOf(order.order_id);
  return {
    outcome: `${runs.size} run → ${view.state}`,
    broken: [...brokenGuarantees(view, []), ...(runs.size === 1 && !runs.has('refused') ? [] : [`runs: ${[...runs]}`])],
  };
}

async function twoBodies(): Promise<Omit<RaceResult, 'race'>> {
  const order = anOrder();
  const bodies = [order, { ...order, items: [{ sku: 'ABC', qty: 2 }] }];
  const answers = await Promise.all(
    Array.from({ length: SAME_STARTS }, async (_, n) => {
      const body = bodies[n % 2] ?? order;
      return starter.start.mutate(body).then(
        () => ({ body, said: 'started' }),
        (error: unknown) => ({ body, said: orderErrorOf(error)?.code ?? String(error) }),
      );
    }),
  );
  const said = bodies.map((body) => [...new Set(answers.filter((one) => one.body === body).map((one) => one.said))]);
  const view = await endOf(order.order_id);
  const outcome = said
    .map((words) => words.join('/'))
    .toSorted()
    .join(' and ');
  return {
    outcome: `${outcome} → ${view.state}`,
    broken: [...brokenGuarantees(view, []), ...(outcome === 'ORDER_CONFLICT and started' ? [] : [outcome])],
  };
}

/** Prints the outcomes of each race. Returns false when a guarantee was broken. */
function report(all: RaceResult[]): boolean {
  const table = new Table({ head: ['race', 'orders', 'outcomes'], style: { head: [], border: [] } });
  for (const [race, runs = []] of Object.entries(Object.groupBy(all, ({ race }) => race))) {
    const outcomes = Object.entries(Object.groupBy(runs, ({ outcome }) => outcome));
    const lines = outcomes.map(([outcome, some]) => `${some?.length} × ${outcome}`).toSorted();
    table.push([race, runs.length, lines.join('\n')]);
  }
  print(table.toString());
  const broken = all.flatMap((one) => one.broken);
  print(broken.length === 0 ? 'no guarantee was broken' : broken.join('\n'));
  return broken.length === 0;
}
