/** What people may ask of a running order. A refused update fails with a typed failure; a signal never fails, its refusal is noted. */

import type { UpdateDefinition } from '@temporalio/common';
import {
  ApplicationFailure,
  CancellationScope,
  condition,
  currentUpdateInfo,
  defineQuery,
  defineSignal,
  defineUpdate,
  log,
  setHandler,
  uuid4,
} from '@temporalio/workflow';
import { COMMAND_NAMES, COMMANDS, type Command, type CommandAnswer, cancelReasonOf } from '@trellis/contracts/command';
import type { ErrorCode, ErrorDetails } from '@trellis/contracts/error';
import { COMMAND_ID_PATTERN } from '@trellis/contracts/id';
import type { Address } from '@trellis/contracts/order';
import type { WorkflowStatus } from '@trellis/contracts/status';
import { DISPATCH_FAILED_SIGNAL, STATUS_QUERY } from '@trellis/contracts/temporal';
import { runLocally, runRemotely } from './run-activity.ts';
import { type RunningOrder, statusOf, whenReady } from './running-order.ts';

/** Registers everything a running order answers to. Call it before the first await, in the workflow's root scope. */
export function acceptCommands(running: RunningOrder): void {
  setHandler(defineQuery<WorkflowStatus>(STATUS_QUERY), () => statusOf(running));

  const decide: Record<Command, Decide> = {
    approve: () => approve(running),
    cancel: (reason) => cancel(running, reason),
    address: (address, id) => changeAddress(running, address, id),
  };
  for (const command of COMMAND_NAMES) accept(running, command, decide[command]);

  setHandler(defineSignal<[unknown]>(DISPATCH_FAILED_SIGNAL), (reason) => {
    running.dispatchFailedReason = typeof reason === 'string' ? reason.slice(0, 500).toWellFormed() : 'no reason given';
  });

  // A Temporal cancellation is a cancel command. It has no answer, so a refusal is only logged.
  CancellationScope.current().cancelRequested.catch(() =>
    CancellationScope.nonCancellable(() => cancel(running, 'temporal_cancel')).catch((error: Error) =>
      log.info(error.message),
    ),
  );
}

type Decide = (argument: unknown, id: string) => Promise<boolean>;
/** Whatever a caller sends. */
type Arguments = [unknown?, unknown?];

/** The same decision for the update and the signal of a command, whose last argument may be the command's id. */
function accept(running: RunningOrder, command: Command, decide: Decide): void {
  const idAt = COMMANDS[command].argument === null ? 0 : 1;

  setHandler<CommandAnswer, Arguments, UpdateDefinition<CommandAnswer, Arguments>>(
    defineUpdate(COMMANDS[command].temporal),
    (argument) => {
      const id = commandId(currentUpdateInfo()?.id);
      return once(running, command, id, () => decide(argument, id));
    },
    {
      // Refused before it is accepted, an update leaves no trace in the history.
      validator: () => {
        if (!running.answers.has(currentUpdateInfo()?.id ?? '')) refuseIfTooLate(running, command);
      },
    },
  );

  setHandler(defineSignal<Arguments>(COMMANDS[command].temporal), async (...args) => {
    const id = commandId(args[idAt]);
    try {
      await once(running, command, id, () => decide(args[0], id));
    } catch (error) {
      await noteRefusal(running, command, id, error);
    }
  });
}

/** Applies a command id once, however it arrives; its repetition gets the first answer. */
function once(
  running: RunningOrder,
  command: Command,
  id: string,
  decide: () => Promise<boolean>,
): Promise<CommandAnswer> {
  const known = running.answers.get(id);
  if (known) return known;
  const answer = CancellationScope.nonCancellable(async () => {
    const changed = await decide();
    log.info('command accepted', { order_id: running.orderId, command, changed, step: running.step });
    return { command, state: running.state, changed };
  });
  running.answers.set(id, answer);
  return answer;
}

async function approve(running: RunningOrder): Promise<boolean> {
  refuseIfTooLate(running, 'approve');
  if (running.approved) return false;
  running.approved = true;
  if (running.state === 'awaiting_approval') running.state = 'approved';
  return true;
}

/** Before a try to ship, at once; after that the carrier decides, because it may have the parcel already. */
async function cancel(running: RunningOrder, given: unknown): Promise<boolean> {
  refuseIfTooLate(running, 'cancel');
  if (running.cancel) return false;
  const decide = () => {
    if (running.cancel) return false;
    running.cancel = { reason: cancelReasonOf(given) };
    return true;
  };
  if (running.shippingAttempts === 0) return decide();
  return whileUndecided(running, async () => {
    const answer = await runRemotely('close_parcel', { order_id: running.orderId });
    if (answer === 'taken') throw tooLate(running);
    return decide();
  });
}

/** A try to ship has the old address, so the change waits until the carrier has refused it. */
async function changeAddress(running: RunningOrder, given: unknown, id: string): Promise<boolean> {
  const mayChange = () =>
    running.phase !== 'open' || (running.received && !running.parcelMayBeTaken && running.undecided === 0);
  const change = async () => {
    refuseIfTooLate(running, 'address');
    const updated = await runLocally('update_address', { order_id: running.orderId, address: given, command_id: id });
    if (updated.outcome === 'closed') throw tooLate(running);
    if (updated.outcome === 'invalid')
      throw refused('INVALID', 'the address is not valid', { errors: updated.problems });
    const changed = !sameAddress(running.order.address, updated.address);
    running.order = { ...running.order, address: updated.address };
    running.addressChanges += 1;
    return changed;
  };
  return whenReady(mayChange, () => whileUndecided(running, change));
}

async function whileUndecided<T>(running: RunningOrder, decide: () => Promise<T>): Promise<T> {
  running.undecided += 1;
  try {
    return await decide();
  } finally {
    running.undecided -= 1;
  }
}

/** Throws when the order's state forbids the command for good; what merely repeats is not refused. */
function refuseIfTooLate(running: RunningOrder, command: Command): void {
  if (command === 'cancel' && running.cancel) return;
  if (command === 'approve' && running.approved && !running.cancel && running.phase !== 'settling') return;
  if (running.cancel || running.phase !== 'open') throw tooLate(running);
}

const tooLate = (running: RunningOrder) =>
  refused('TOO_LATE', `too late: the order is ${running.state}`, { state: running.state });

function refused(code: ErrorCode, message: string, details: ErrorDetails): ApplicationFailure {
  return ApplicationFailure.create({ type: code, message, nonRetryable: true, details: [details] });
}

/** Nobody waits for a signal's answer, so its refusal goes to the audit trail. A run that doesn't own the order leaves none. */
async function noteRefusal(running: RunningOrder, command: Command, id: string, error: unknown): Promise<void> {
  const code = error instanceof ApplicationFailure ? (error.type as ErrorCode) : 'INTERNAL';
  log.info('command refused', { order_id: running.orderId, command, code, step: running.step });
  await CancellationScope.nonCancellable(async () => {
    await condition(() => running.received || running.phase !== 'open');
    const refusal = { command, id, code, state: running.state };
    if (running.received) await runLocally('refuse_command', { order_id: running.orderId, refusal });
  });
}

const commandId = (given: unknown): string =>
  typeof given === 'string' && COMMAND_ID_PATTERN.test(given) ? given : uuid4();

function sameAddress(one: Address | null | undefined, other: Address): boolean {
  const keys = Object.keys(other);
  return Object.keys(one ?? {}).length === keys.length && keys.every((key) => one?.[key] === other[key]);
}
