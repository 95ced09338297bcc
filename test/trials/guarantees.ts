/** Checks how an order ended against what the API answered to its commands. */
import type { Command } from '@trellis/contracts/commands';
import type { EventType } from '@trellis/contracts/event';
import type { Address } from '@trellis/contracts/order';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import type { Answer, OrderView } from '@trellis/local/shopper';

/** The events that an order has at most once each, in this order. */
const MILESTONES = [
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

/** The milestones of an order that ships. */
const SHIPPED: EventType[] = [
  'order_received',
  'order_validated',
  'order_approved',
  'payment_charged',
  'carrier_dispatched',
  'order_shipped',
];

/** The guarantees that this order breaks, a line each. `answers`: in the sequence in which they arrived. */
export function brokenGuarantees(order: OrderView, answers: Answer[]): string[] {
  const broken = [...brokenByEvents(order), ...brokenByAnswers(order, answers)];
  return broken.map((line) => `${order.order_id}: ${line}`);
}

function brokenByEvents({ state, events, shipments }: OrderView): string[] {
  if (!isTerminal(state)) return [`still ${state}`];
  const broken: string[] = [];
  const times = (type: EventType) => events.filter((event) => event.type === type).length;
  const milestones = events
    .map((event) => event.type)
    .filter((type) => (MILESTONES as readonly EventType[]).includes(type));
  const expected = MILESTONES.filter((type) => milestones.includes(type));
  if (milestones.join() !== expected.join())
    broken.push(`events are repeated or out of order: ${milestones.join(', ')}`);
  const ends = milestones.filter((type) => /^order_(shipped|canceled|expired|failed)$/.test(type));
  if (ends.join() !== `order_${state}`)
    broken.push(`is ${state}, but its terminal events are ${ends.join(', ') || 'none'}`);
  if (state === 'shipped' && milestones.join() !== SHIPPED.join())
    broken.push(`shipped with the events ${milestones.join(', ')}`);
  if (state !== 'shipped' && times('carrier_dispatched') > 0)
    broken.push(`${state}, although its parcel was dispatched`);
  if (state !== 'shipped' && times('payment_charged') > times('payment_refunded'))
    broken.push(`${state}, but not refunded`);
  if (times('package_prepared') !== shipments.length)
    broken.push(`${shipments.length} shipping attempts, but ${times('package_prepared')} package_prepared events`);
  return broken;
}

function brokenByAnswers({ state, address, shipments }: OrderView, answers: Answer[]): string[] {
  const broken: string[] = [];
  const to = (command: Command) => answers.filter((answer) => answer.command === command);
  const accepted = (command: Command) => to(command).filter((answer) => answer.said === 'accepted');
  const cancels = to('cancel');
  if (accepted('cancel').length > 0 && state !== 'canceled')
    broken.push(`a cancel was accepted, but the order is ${state}`);
  if (cancels.length > 0 && cancels.every(({ said }) => said === 'refused') && state === 'canceled')
    broken.push('every cancel was refused, but the order is canceled');
  const approvals = to('approve');
  if (approvals.length > 0 && approvals.every(({ said }) => said === 'refused') && state === 'shipped')
    broken.push('every approval was refused, but the order is shipped');
  if (accepted('approve').length > 0 && state === 'expired')
    broken.push('an approval was accepted, but the order is expired');

  const last = addressOf(accepted('address').at(-1));
  const unsure = to('address').some(({ said }) => said === 'queued' || said === 'lost');
  if (last && !unsure && !same(last, address)) broken.push('an address was accepted, but the order has another one');
  const parcel = shipments.find(({ status }) => status === 'dispatched')?.payload as { address?: Address } | undefined;
  if (parcel && !same(parcel.address, address)) broken.push('its parcel went to another address than the order has');
  return broken;
}

function addressOf(answer: Answer | undefined): Address | undefined {
  return (answer?.input as { address?: Address } | undefined)?.address;
}

/** Compares addresses whatever the order of their keys, which SQL changes. */
function same(one: unknown, other: unknown): boolean {
  const text = (value: unknown) => JSON.stringify(Object.entries(value ?? {}).toSorted());
  return text(one) === text(other);
}
