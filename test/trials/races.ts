/** `npm run races [-- --orders 200] [--rate 5]`: commands against the moments that decide an order, on the real servers. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createOrdersClient, type OrdersClient, orderErrorOf } from '@trellis/client';
import type { Command } from '@trellis/contracts/command';
import { isTerminal } from '@trellis/contracts/lifecycle';
import type { Address, StartInput } from '@trellis/contracts/order';
import { POLICIES } from '@trellis/contracts/policy';
import { violations } from '@trellis/local/books';
import { startStack, throwAwayFolder } from '@trellis/local/stack/stack';
import Table from 'cli-table3';
import * as v from 'valibot';
import { type Customer, createCustomer } from './customer.ts';
import { type Answer, brokenPromises, type OrderView } from './promises.ts';

/** What an order's racers do once it has been started; answers what they were told. */
type Racers = (race: { order: StartInput; delay: number; ask: Ask }) => Promise<Answer[]>;
type Ask = (command: Command, options?: { address?: Address; key?: string }) => Promise<Answer>;

interface Race {
  name: string;
  /** Milliseconds, swept evenly; under flaky_call, where everything takes longer, wider by SLOWER. */
  delays: [from: number, to: number];
  address?: Address;
  racers: Racers;
}

interface Raced {
  race: string;
  outcome: string;
  broken: string[];
}

const CHICAGO = { line1: '1 Main St', city: 'Chicago' };
const UNREACHABLE = { line1: '1 Main St', city: 'Unreachable' };
const BOSTON = { line1: '2 Birch', city: 'Boston' };
const SAME_STARTS = 200;
const SLOWER = 5;
/** No order lives nearly as long. */
const SEEN_WITHIN_MS = 60_000;

const RACES: Race[] = [
  {
    name: 'cancel against approve',
    delays: [-40, 40],
    async racers({ delay, ask }) {
      await sleep(500);
      return together([() => ask('approve'), Math.max(0, -delay)], [() => ask('cancel'), Math.max(0, delay)]);
    },
  },
  {
    name: 'cancel against charge',
    delays: [0, 60],
    racers: ({ delay, ask }) => afterApproval(ask, delay, () => ask('cancel')),
  },
  {
    name: 'cancel against dispatch',
    delays: [20, 150],
    racers: ({ delay, ask }) => afterApproval(ask, delay, () => ask('cancel')),
  },
  {
    name: 'cancel against mark_shipped',
    delays: [50, 250],
    racers: ({ delay, ask }) => afterApproval(ask, delay, () => ask('cancel')),
  },
  {
    name: 'approve at the window’s last moment',
    delays: [-120, 80],
    async racers({ order, delay, ask }) {
      const validated = await momentOf(order.order_id, 'order_validated');
      await sleep(validated + POLICIES.exercise.review_ms + delay - Date.now());
      return [await ask('approve')];
    },
  },
  {
    name: 'address against dispatch',
    delays: [0, 150],
    racers: ({ delay, ask }) => afterApproval(ask, delay, () => ask('address', { address: BOSTON })),
  },
  {
    name: 'corrected address against the next try',
    delays: [50, 600],
    address: UNREACHABLE,
    racers: ({ delay, ask }) => afterApproval(ask, delay, () => ask('address', { address: BOSTON })),
  },
  {
    name: 'every command against the end',
    delays: [20, 250],
    racers: ({ delay, ask }) =>
      afterApproval(
        ask,
        delay,
        () => ask('approve'),
        () => ask('address', { address: BOSTON }),
        () => ask('cancel'),
      ),
  },
  {
    name: 'one cancel sent ten times at once',
    delays: [0, 200],
    racers({ delay, ask }) {
      const key = randomUUID();
      return afterApproval(ask, delay, ...Array.from({ length: 10 }, () => () => ask('cancel', { key })));
    },
  },
];

const say = (line: string) => process.stdout.write(`${line}\n`);
const positive = v.pipe(v.string(), v.transform(Number), v.number(), v.gtValue(0));
const { values } = parseArgs({
  options: { orders: { type: 'string', default: '200' }, rate: { type: 'string', default: '5' } },
});
const options = v.parse(v.object({ orders: positive, rate: positive }), values);

let client: OrdersClient;
let customer: Customer;
const raced: Raced[] = [];
// Without faults the moments are sharp; with them they are wherever a call hangs.
for (const faults of ['off', 'on']) {
  const { folder, remove } = await throwAwayFolder(say);
  const stack = await startStack({ folder, persistent: false, env: { FLAKY_CALL: faults }, say });
  try {
    client = createOrdersClient(stack.addresses.API_URL);
    customer = createCustomer(stack.addresses.API_URL, 0);
    const title = (name: string) => `${name}, flaky_call ${faults}`;
    for (const race of RACES) {
      const [from, to] = race.delays.map((delay) => delay * (faults === 'on' ? SLOWER : 1)) as [number, number];
      const running = Array.from({ length: options.orders }, async (_, n) => {
        await sleep((n * 1000) / options.rate);
        return runOnce(race, from + ((to - from) * n) / options.orders);
      });
      raced.push(...(await Promise.all(running)).map((one) => ({ ...one, race: title(race.name) })));
    }
    raced.push({ ...(await sameStarts()), race: title(`${SAME_STARTS} starts of one order`) });
    raced.push({ ...(await twoBodies()), race: title(`${SAME_STARTS} starts with two bodies`) });
    const broken = await violations(stack.addresses.DATABASE_URL);
    raced.push({ race: title('books'), outcome: broken.length === 0 ? 'agree' : 'disagree', broken });
  } finally {
    await stack.stop();
    await remove();
  }
}
process.exit(report(raced) ? 0 : 1);

async function runOnce(race: Race, delay: number): Promise<Omit<Raced, 'race'>> {
  const order = anOrder(race.address);
  if (!(await customer.start(order))) return { outcome: 'turned away', broken: [`${order.order_id} was turned away`] };
  const ask: Ask = (command, options) => customer.ask(order.order_id, command, options);
  const answers = await race.racers({ order, delay, ask });
  const view = await endOf(order.order_id);
  const told = answers.map(wordOf).filter((word) => word !== 'approve accepted');
  const money = view.payments.map(({ status }) => status)[0] ?? 'never charged';
  return {
    outcome: `${[...new Set(told)].join(' + ')} → ${view.state}, ${money}`,
    broken: brokenPromises(view, answers),
  };
}

function wordOf(answer: Answer): string {
  return `${answer.command} ${answer.said === 'refused' ? answer.code : answer.said}`;
}

/** Approves, and sends the others so many milliseconds after that was answered. */
async function afterApproval(ask: Ask, delay: number, ...others: (() => Promise<Answer>)[]): Promise<Answer[]> {
  await sleep(500);
  const approved = await ask('approve');
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

/** Looks at an order until there is to see what is looked for. One that has just been accepted has no row yet. */
async function seen<T>(order_id: string, look: (view: OrderView) => T | undefined, every: number): Promise<T> {
  for (const end = Date.now() + SEEN_WITHIN_MS; Date.now() < end; await sleep(every)) {
    const view = await client.get.query({ order_id }).catch(() => undefined);
    const found = view && look(view);
    if (found !== undefined) return found;
  }
  throw new Error(`${order_id} has not come as far as it should within ${SEEN_WITHIN_MS / 1000} s`);
}

async function sameStarts(): Promise<Omit<Raced, 'race'>> {
  const order = anOrder();
  const answers = await Promise.allSettled(Array.from({ length: SAME_STARTS }, () => client.start.mutate(order)));
  const runs = new Set(answers.map((answer) => (answer.status === 'fulfilled' ? answer.value.run_id : 'refused')));
  await client.signal.approve.mutate({ order_id: order.order_id });
  const view = await endOf(order.order_id);
  return {
    outcome: `${runs.size} run → ${view.state}`,
    broken: [...brokenPromises(view, []), ...(runs.size === 1 && !runs.has('refused') ? [] : [`runs: ${[...runs]}`])],
  };
}

async function twoBodies(): Promise<Omit<Raced, 'race'>> {
  const order = anOrder();
  const bodies = [order, { ...order, items: [{ sku: 'ABC', qty: 2 }] }];
  const answers = await Promise.all(
    Array.from({ length: SAME_STARTS }, async (_, n) => {
      const body = bodies[n % 2] ?? order;
      return client.start.mutate(body).then(
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
    broken: [...brokenPromises(view, []), ...(outcome === 'ORDER_CONFLICT and started' ? [] : [outcome])],
  };
}

/** Prints how each race went; false when a promise was broken. */
function report(all: Raced[]): boolean {
  const table = new Table({ head: ['race', 'orders', 'how it went'], style: { head: [], border: [] } });
  for (const [race, runs = []] of Object.entries(Object.groupBy(all, ({ race }) => race))) {
    const outcomes = Object.entries(Object.groupBy(runs, ({ outcome }) => outcome));
    const lines = outcomes.map(([outcome, some]) => `${some?.length} × ${outcome}`).toSorted();
    table.push([race, runs.length, lines.join('\n')]);
  }
  say(table.toString());
  const broken = all.flatMap((one) => one.broken);
  say(broken.length === 0 ? 'no promise was broken' : broken.join('\n'));
  return broken.length === 0;
}
