/** Holds what the API answered about an order against what became of it. */
import type { ErrorCode, OrdersClient } from '@trellis/client';
import type { Command } from '@trellis/contracts/command';
import { type EventType, isTerminal } from '@trellis/contracts/lifecycle';
import type { Address } from '@trellis/contracts/order';

/** An order as the API shows it. */
export type OrderView = Awaited<ReturnType<OrdersClient['get']['query']>>;

/** One answer to a command; `refused` stands for whatever the API said no with, `lost` for no word at all. */
export type Answer = { command: Command; address?: Address } & (
  | { said: 'accepted'; changed: boolean }
  | { said: 'queued' }
  | { said: 'refused'; code: ErrorCode }
  | { said: 'lost' }
);

/** What happens to an order at most once, in this order. */
const LIFE = [
  'order_received',
  'order_validated',
  'order_approved',
  'payment_charged',
  'carrier_dispatched',
  'payment_refunded',
  'order_shipped',
  'order_canceled',
  'order_expired',
  'order_failed',
] as const satisfies EventType[];

const SHIPPED: EventType[] = [
  'order_received',
  'order_validated',
  'order_approved',
  'payment_charged',
  'carrier_dispatched',
  'order_shipped',
];

/** The promises that were broken to this order, a line each; its answers stand in the order in which they came. */
export function brokenPromises(order: OrderView, answers: Answer[]): string[] {
  const broken = [...brokenTrail(order), ...brokenAnswers(order, answers)];
  return broken.map((line) => `${order.order_id}: ${line}`);
}

function brokenTrail({ state, events, shipments }: OrderView): string[] {
  if (!isTerminal(state)) return [`still ${state}`];
  const broken: string[] = [];
  const times = (type: EventType) => events.filter((event) => event.type === type).length;
  const life = events.map((event) => event.type).filter((type) => (LIFE as readonly EventType[]).includes(type));
  const expected = LIFE.filter((type) => life.includes(type));
  if (life.join() !== expected.join()) broken.push(`events are doubled or out of order: ${life.join(', ')}`);
  const ends = life.filter((type) => /^order_(shipped|canceled|expired|failed)$/.test(type));
  if (ends.join() !== `order_${state}`) broken.push(`is ${state}, its events say ${ends.join(', ') || 'nothing'}`);
  if (state === 'shipped' && life.join() !== SHIPPED.join()) broken.push(`shipped over ${life.join(', ')}`);
  if (state !== 'shipped' && times('carrier_dispatched') > 0) broken.push(`${state} although its parcel left`);
  if (state !== 'shipped' && times('payment_charged') > times('payment_refunded'))
    broken.push(`${state}, not refunded`);
  if (times('package_prepared') !== shipments.length)
    broken.push(`${shipments.length} tries, but ${times('package_prepared')} events of them`);
  return broken;
}

function brokenAnswers({ state, address, shipments }: OrderView, answers: Answer[]): string[] {
  const broken: string[] = [];
  const to = (command: Command) => answers.filter((answer) => answer.command === command);
  const accepted = (command: Command) => to(command).filter((answer) => answer.said === 'accepted');
  const cancels = to('cancel');
  if (accepted('cancel').length > 0 && state !== 'canceled') broken.push(`a cancel was accepted, but it is ${state}`);
  if (cancels.length > 0 && cancels.every(({ said }) => said === 'refused') && state === 'canceled')
    broken.push('every cancel was refused, but it is canceled');
  const approvals = to('approve');
  if (approvals.length > 0 && approvals.every(({ said }) => said === 'refused') && state === 'shipped')
    broken.push('every approval was refused, but it is shipped');
  if (accepted('approve').length > 0 && state === 'expired') broken.push('an approval was accepted, but it is expired');

  const last = accepted('address').at(-1)?.address;
  const unsure = to('address').some(({ said }) => said === 'queued' || said === 'lost');
  if (last && !unsure && !same(last, address)) broken.push(`an address was accepted, but it has another one`);
  const parcel = shipments.find(({ status }) => status === 'dispatched')?.payload as { address?: Address } | undefined;
  if (parcel && !same(parcel.address, address)) broken.push(`its parcel went to another address than it has`);
  return broken;
}

/** Addresses are read back with their keys in another order. */
function same(one: unknown, other: unknown): boolean {
  const text = (value: unknown) => JSON.stringify(Object.entries(value ?? {}).toSorted());
  return text(one) === text(other);
}
