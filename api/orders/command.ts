import { type Command, repeatsEnd } from '@trellis/contracts/command';
import type { SignalOutput } from '@trellis/contracts/command-input';
import { OrderError } from '@trellis/contracts/error';
import { isTerminal } from '@trellis/contracts/lifecycle';
import type { OrderViews } from '@trellis/drizzle/order-views';
import { type TemporalPort, unavailable } from '../temporal/port.ts';
import { fromSql } from './errors.ts';

/** How long a caller waits for a decision before the command is left to be decided later. */
const DECIDE_WITHIN_MS = 2_000;

/**
 * Sends a command under its id, so that sending it again, also after the order has closed, gets the first answer.
 * Throws the refusal: TOO_LATE with the state that forbids the command, INVALID, or NOT_FOUND.
 */
export async function sendCommand(
  { temporal, views }: { temporal: TemporalPort; views: OrderViews },
  orderId: string,
  command: Command,
  args: unknown[],
  id: string,
): Promise<SignalOutput> {
  const send = () => temporal.update(orderId, command, args, id, DECIDE_WITHIN_MS);
  let sent = await send();
  if (sent.outcome === 'unseen') {
    if (await temporal.signal(orderId, command, [...args, id])) return { ok: true, queued: true };
    // The run has closed since, perhaps led there by this very command.
    sent = await send();
  }
  switch (sent.outcome) {
    case 'decided':
      if (sent.answer.command !== command)
        throw new OrderError('INVALID', 'the Idempotency-Key was used for another command', {
          errors: [{ path: 'Idempotency-Key', message: `was used for ${sent.answer.command}` }],
        });
      return { ok: true, state: sent.answer.state, changed: sent.answer.changed };
    case 'refused':
      throw new OrderError(sent.code, sent.message, sent.details);
    case 'accepted':
      return { ok: true, queued: true };
    case 'unseen':
      throw unavailable(undefined, false);
    case 'closed':
      return onClosed(views, orderId, command);
  }
}

/** A closed order changes no more: what repeats its end is fine, everything else comes too late. */
async function onClosed(views: OrderViews, orderId: string, command: Command): Promise<SignalOutput> {
  const row = await fromSql(() => views.find(orderId));
  if (!row) throw new OrderError('NOT_FOUND', `there is no order ${orderId}`);
  if (isTerminal(row.state) && repeatsEnd(command, row.state)) return { ok: true, state: row.state, changed: false };
  throw new OrderError('TOO_LATE', `too late: the order is ${row.state}`, { state: row.state });
}
