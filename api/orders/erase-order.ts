import type { Actor } from '@trellis/contracts/actor';
import type { SignalOutput } from '@trellis/contracts/command-inputs';
import { OrderError } from '@trellis/contracts/error';
import { isTerminal, type State } from '@trellis/contracts/states-and-steps';
import type { OrderViews } from '@trellis/drizzle/order-views';
import { after } from '../after.ts';
import type { TemporalPort } from '../temporal/port.ts';
import { fromSql, noSuchOrder } from './errors.ts';

/** How long a caller waits for the erasure; after that it is finished later and the answer is 202. */
const ERASED_TIMEOUT_MS = 2_000;
const LOOK_EVERY_MS = 200;

/**
 * Has a workflow erase the personal data of an ended order, as the API's account may change no order. An order that is erased is not erased
 * again. Throws NOT_FOUND, TOO_EARLY while the order is open, or UNAVAILABLE or BUSY when Temporal or SQL failed.
 */
export async function eraseOrder(
  { temporal, views }: { temporal: TemporalPort; views: OrderViews },
  orderId: string,
  erasedBy: Actor,
): Promise<SignalOutput> {
  const find = () => fromSql(() => views.find(orderId));
  const row = await find();
  if (!row) {
    const run = await temporal.find(orderId);
    throw !run || run.dead ? noSuchOrder(orderId) : tooEarly('received');
  }
  const { state } = row;
  if (!isTerminal(state)) throw tooEarly(state);
  if (row.erased_at !== null) return { ok: true, state, changed: false };
  await temporal.erase(orderId, erasedBy);
  for (const end = performance.now() + ERASED_TIMEOUT_MS; performance.now() < end; await after(LOOK_EVERY_MS))
    if ((await find())?.erased_at) return { ok: true, state, changed: true };
  return { ok: true, queued: true };
}

const tooEarly = (state: State) => new OrderError('TOO_EARLY', `too early: the order is ${state}`, { state });
