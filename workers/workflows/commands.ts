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
import { type Command, type CommandAnswer, cancelReasonOf } from '@trellis/contracts/command';
import type { ErrorCode, ErrorDetails } from '@trellis/contracts/error';
import { COMMAND_ID_PATTERN } from '@trellis/contracts/id';
import type { Address } from '@trellis/contracts/order';
import type { WorkflowStatus } from '@trellis/contracts/status';
import { COMMAND_NAMES, DISPATCH_FAILED_SIGNAL, STATUS_QUERY } from '@trellis/contracts/temporal';
import { type Life, statusOf, until } from './life.ts';
import { runLocally, runRemotely } from './steps.ts';

/** Registers everything a running order answers to. Call it before the first await, in the workflow's root scope. */
export function acceptCommands(life: Life): void {
  setHandler(defineQuery<WorkflowStatus>(STATUS_QUERY), () => statusOf(life));

  accept(life, 'approve', () => approve(life));
  accept(life, 'cancel', (reason) => cancel(life, reason));
  accept(life, 'address', (address, id) => changeAddress(life, address, id));

  setHandler(defineSignal<[unknown]>(DISPATCH_FAILED_SIGNAL), (reason) => {
    life.dispatchFailedReason = typeof reason === 'string' ? reason.slice(0, 500).toWellFormed() : 'no reason given';
  });

  // A Temporal cancellation is a cancel command. It has no answer, so a refusal is only logged.
  CancellationScope.current().cancelRequested.catch(() =>
    CancellationScope.nonCancellable(() => cancel(life, 'temporal_cancel')).catch((error: Error) =>
      log.info(error.message),
    ),
  );
}

type Decide = (argument: unknown, id: string) => Promise<boolean>;
/** Whatever a caller sends. */
type Arguments = [unknown?, unknown?];

/** The same decision for the update and the signal of a command, whose last argument may be the command's id. */
function accept(life: Life, command: Command, decide: Decide): void {
  const idAt = command === 'approve' ? 0 : 1;

  setHandler<CommandAnswer, Arguments, UpdateDefinition<CommandAnswer, Arguments>>(
    defineUpdate(COMMAND_NAMES[command]),
    (argument) => {
      const id = commandId(currentUpdateInfo()?.id);
      return once(life, command, id, () => decide(argument, id));
    },
    {
      // Refused before it is accepted, an update leaves no trace in the history.
      validator: () => {
        if (!life.answers.has(currentUpdateInfo()?.id ?? '')) refuseIfTooLate(life, command);
      },
    },
  );

  setHandler(defineSignal<Arguments>(COMMAND_NAMES[command]), async (...args) => {
    const id = commandId(args[idAt]);
    try {
      await once(life, command, id, () => decide(args[0], id));
    } catch (error) {
      await noteRefusal(life, command, id, error);
    }
  });
}

/** Applies a command id once, however it arrives; its repetition gets the first answer. */
function once(life: Life, command: Command, id: string, decide: () => Promise<boolean>): Promise<CommandAnswer> {
  const known = life.answers.get(id);
  if (known) return known;
  const answer = CancellationScope.nonCancellable(async () => {
    const changed = await decide();
    log.info('command accepted', { order_id: life.orderId, command, changed, step: life.step });
    return { command, state: life.state, changed };
  });
  life.answers.set(id, answer);
  return answer;
}

async function approve(life: Life): Promise<boolean> {
  refuseIfTooLate(life, 'approve');
  if (life.approved) return false;
  life.approved = true;
  if (life.state === 'awaiting_approval') life.state = 'approved';
  return true;
}

/** Before a try to ship, at once; after that the carrier decides, because it may have the parcel already. */
async function cancel(life: Life, given: unknown): Promise<boolean> {
  refuseIfTooLate(life, 'cancel');
  if (life.cancel) return false;
  const decide = () => {
    if (life.cancel) return false;
    life.cancel = { reason: cancelReasonOf(given) };
    return true;
  };
  if (life.shipAttempts === 0) return decide();
  return whileUndecided(life, async () => {
    const answer = await runRemotely('close_parcel', { order_id: life.orderId });
    if (answer === 'taken') throw tooLate(life);
    return decide();
  });
}

/** A try to ship has the old address, so the change waits until the carrier has refused it. */
async function changeAddress(life: Life, given: unknown, id: string): Promise<boolean> {
  const mayChange = () => life.phase !== 'open' || (life.received && !life.parcelMayBeTaken && life.undecided === 0);
  const change = async () => {
    refuseIfTooLate(life, 'address');
    const updated = await runLocally('update_address', { order_id: life.orderId, address: given, command_id: id });
    if (updated.outcome === 'closed') throw tooLate(life);
    if (updated.outcome === 'invalid')
      throw refused('INVALID', 'the address is not valid', { errors: updated.problems });
    const changed = !sameAddress(life.order.address, updated.address);
    life.order = { ...life.order, address: updated.address };
    life.addressChanges += 1;
    return changed;
  };
  return until(mayChange, () => whileUndecided(life, change));
}

async function whileUndecided<T>(life: Life, decide: () => Promise<T>): Promise<T> {
  life.undecided += 1;
  try {
    return await decide();
  } finally {
    life.undecided -= 1;
  }
}

/** Throws when the order's state forbids the command for good; what merely repeats is not refused. */
function refuseIfTooLate(life: Life, command: Command): void {
  if (command === 'cancel' && life.cancel) return;
  if (command === 'approve' && life.approved && !life.cancel && life.phase !== 'settling') return;
  if (life.cancel || life.phase !== 'open') throw tooLate(life);
}

const tooLate = (life: Life) => refused('TOO_LATE', `too late: the order is ${life.state}`, { state: life.state });

function refused(code: ErrorCode, message: string, details: ErrorDetails): ApplicationFailure {
  return ApplicationFailure.create({ type: code, message, nonRetryable: true, details: [details] });
}

/** Nobody waits for a signal's answer, so its refusal goes to the audit trail. A run that doesn't own the order leaves none. */
async function noteRefusal(life: Life, command: Command, id: string, error: unknown): Promise<void> {
  const code = error instanceof ApplicationFailure ? (error.type as ErrorCode) : 'INTERNAL';
  log.info('command refused', { order_id: life.orderId, command, code, step: life.step });
  await CancellationScope.nonCancellable(async () => {
    await condition(() => life.received || life.phase !== 'open');
    const refusal = { command, id, code, state: life.state };
    if (life.received) await runLocally('refuse_command', { order_id: life.orderId, refusal });
  });
}

const commandId = (given: unknown): string =>
  typeof given === 'string' && COMMAND_ID_PATTERN.test(given) ? given : uuid4();

function sameAddress(one: Address | null | undefined, other: Address): boolean {
  const keys = Object.keys(other);
  return Object.keys(one ?? {}).length === keys.length && keys.every((key) => one?.[key] === other[key]);
}
