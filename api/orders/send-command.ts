import type { Actor } from '@trellis/contracts/actor';
import type { SignalOutput } from '@trellis/contracts/command-inputs';
import { type Command, repeatsEnd } from '@trellis/contracts/commands';
import { OrderError } from '@trellis/contracts/error';
import { argumentsHash } from '@trellis/contracts/request-hash';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import type { OrderViews } from '@trellis/drizzle/order-views';
import { type TemporalPort, unavailable } from '../temporal/port.ts';
import { fromSql, noSuchOrder } from './errors.ts';

/** How long a caller waits for a decision; after that the command is decided later and the answer is 202. */
const DECISION_TIMEOUT_MS = 2_000;

/**
 * Sends a command under the id `id`, and who sends it. Sending it again under the same id returns the first answer, also after the order
 * has ended. Throws the refusal (TOO_LATE with the state that forbids the command, NOT_FOUND, INVALID, also when the id was used
 * for another request), or UNAVAILABLE or BUSY when Temporal or SQL failed.
 */
export async function sendCommand(
  { temporal, views }: { temporal: TemporalPort; views: OrderViews },
  orderId: string,
  command: Command,
  args: unknown[],
  id: string,
  from: [actor: Actor, proof?: string],
): Promise<SignalOutput> {
  const hash = await argumentsHash(args);
  const send = () => temporal.update(orderId, command, [...args, hash, ...from], id, DECISION_TIMEOUT_MS);
  let sent = await send();
  // If the run was continued as new, the next run has the command under this id; if it was ended from outside, there is none.
  if (sent.outcome === 'interrupted') sent = await send();
  if (sent.outcome === 'no_open_run') {
    const ended = await onEnded(views, orderId, command);
    if (ended) return ended;
    // Temporal also turns away an update that reaches a run while it is continued as new.
    sent = await send();
  }
  if (sent.outcome === 'not_accepted') {
    if (await temporal.signal(orderId, command, [...args, id, hash, ...from])) return { ok: true, queued: true };
    // The run has completed meanwhile, perhaps because of this command.
    sent = await send();
  }
  switch (sent.outcome) {
    case 'decided':
      if (sent.answer.command !== command) throw keyWasUsed(`for ${sent.answer.command}`);
      // Other callers of Temporal send no hash, nor does an older version.
      if ((sent.answer.arguments_hash ?? hash) !== hash) throw keyWasUsed('with other values');
      return { ok: true, state: sent.answer.state, changed: sent.answer.changed };
    case 'refused':
      throw new OrderError(sent.code, sent.message, sent.details);
    case 'accepted':
    case 'interrupted':
      return { ok: true, queued: true };
    case 'not_accepted':
      throw unavailable(undefined);
    case 'no_open_run': {
      const ended = await onEnded(views, orderId, command);
      if (ended) return ended;
      const message = 'the run of this order was ended; the order will be settled';
      throw new OrderError('UNAVAILABLE', message, { retry_after: 5 });
    }
  }
}

const keyWasUsed = (how: string) =>
  new OrderError('INVALID', 'the Idempotency-Key was used for another request', {
    errors: [{ path: 'Idempotency-Key', message: `was used ${how}` }],
  });

/**
 * In a terminal state, the command that led to it is accepted without a change; every other command is TOO_LATE. Undefined when the
 * order is open: one without a run is settled by the workers within a minute or so.
 */
async function onEnded(views: OrderViews, orderId: string, command: Command): Promise<SignalOutput | undefined> {
  const row = await fromSql(() => views.find(orderId));
  if (!row) throw noSuchOrder(orderId);
  if (!isTerminal(row.state)) return undefined;
  if (repeatsEnd(command, row.state)) return { ok: true, state: row.state, changed: false };
  throw new OrderError('TOO_LATE', `too late: the order is ${row.state}`, { state: row.state });
}
