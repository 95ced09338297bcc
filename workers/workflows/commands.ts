/** The commands on a running order. A refused update fails with a typed failure, a refused signal is recorded as an event. */

import { HandlerUnfinishedPolicy, type UpdateDefinition } from '@temporalio/common';
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
import { type Actor, actorIn, FOREIGN_CALLER, isSameActor } from '@trellis/contracts/actor';
import {
  COMMAND_LIMITS,
  COMMAND_NAMES,
  COMMANDS,
  type Command,
  type CommandAnswer,
  cancelReasonOf,
  NO_CHANGE,
} from '@trellis/contracts/commands';
import type { ErrorCode } from '@trellis/contracts/error';
import { COMMAND_ID_PATTERN } from '@trellis/contracts/id';
import type { Address } from '@trellis/contracts/order';
import type { WorkflowStatus } from '@trellis/contracts/order-status';
import { DISPATCH_FAILED_SIGNAL, STATUS_QUERY } from '@trellis/contracts/temporal';
import { bounded, MAX_NEW_ADDRESS_BYTES, within } from './bounds.ts';
import { runLocally, runRemotely } from './run-activity.ts';
import { type RunningOrder, type SentCommand, statusOf, whenReady } from './running-order.ts';

/** Registers the order's query, commands and signals. Call it before the first await, in the workflow's root scope. */
export function acceptCommands(order: RunningOrder): void {
  setHandler(defineQuery<WorkflowStatus>(STATUS_QUERY), () => statusOf(order));

  // Commands that the run before left undecided are older than those that this run receives.
  for (const sent of order.inherited) void applySignal(order, sent);
  for (const command of COMMAND_NAMES) accept(order, command);

  setHandler(defineSignal<[unknown]>(DISPATCH_FAILED_SIGNAL), (reason) => {
    order.dispatch_failed_reason = typeof reason === 'string' ? reason.slice(0, 500).toWellFormed() : 'no reason given';
  });

  // A Temporal cancellation is a cancel command without an answer.
  const cancellation = { command: 'cancel', id: TEMPORAL_CANCEL, argument: 'temporal_cancel', by: 'signal' } as const;
  CancellationScope.current().cancelRequested.catch(() => applySignal(order, cancellation));
}

/** Not validated: a caller may send any values. */
type Arguments = [unknown?, unknown?, unknown?, unknown?, unknown?];

/** Not a valid command id, so no caller can use it. */
const TEMPORAL_CANCEL = 'Temporal cancellation';

/** Registers a command's update and its signal. Behind the command's own argument, if any, a signal may have the command's id, and both a hash, the actor, and an approval's proof. */
function accept(order: RunningOrder, command: Command): void {
  const idAt = COMMANDS[command].argument === null ? 0 : 1;
  // A run that continues as new abandons its handlers: the next run decides their commands.
  const unfinishedPolicy = HandlerUnfinishedPolicy.ABANDON;

  setHandler<CommandAnswer, Arguments, UpdateDefinition<CommandAnswer, Arguments>>(
    defineUpdate(COMMANDS[command].temporal),
    (...args) => {
      const id = commandId(currentUpdateInfo()?.id);
      const argument = readArgument[command](args[0]);
      const actor = actorIn(args[idAt + 1]);
      return applyOnce(order, {
        command,
        id,
        argument,
        ...hashIn(args[idAt]),
        actor,
        ...proofIn(args[idAt + 2]),
        by: 'update',
      });
    },
    {
      // An update that the validator refuses is not recorded in the history. Replay skips validators, so this one must not call `bounded`.
      validator: (...args) => {
        if (order.answers.has(currentUpdateInfo()?.id ?? '')) return;
        refuseIfTooLate(order, command);
        if (command === 'approve') refuseOwnOrder(order, actorIn(args[idAt + 1]));
        const isCrowded = command === 'address' && waiting(order, command) >= COMMAND_LIMITS.undecided;
        if (isCrowded || isTooMany(order, command)) throw tooMany(command);
        if (repeats(order, command) && order.repetitions >= COMMAND_LIMITS.repetitions) throw noChange(order, command);
      },
      unfinishedPolicy,
    },
  );

  setHandler(
    defineSignal<Arguments>(COMMANDS[command].temporal),
    (...args) =>
      applySignal(order, {
        command,
        id: commandId(args[idAt]),
        argument: readArgument[command](args[0]),
        ...hashIn(args[idAt + 1]),
        actor: actorIn(args[idAt + 2]),
        ...proofIn(args[idAt + 3]),
        by: 'signal',
      }),
    { unfinishedPolicy },
  );
}

/** The part of a command's argument, which may be any value, that is kept until the command is decided. */
const readArgument: Record<Command, (given: unknown) => unknown> = {
  approve: () => undefined,
  cancel: cancelReasonOf,
  address: (given) => within(MAX_NEW_ADDRESS_BYTES, given) ?? null,
};

/** Decides a command and resolves with whether it changed the order. Throws when it refuses. */
const decide: Record<Command, (order: RunningOrder, sent: SentCommand) => Promise<boolean>> = {
  approve,
  cancel,
  address: changeAddress,
};

/** Applies a command that has no caller to answer: its refusal is recorded. */
async function applySignal(order: RunningOrder, sent: SentCommand): Promise<void> {
  try {
    await applyOnce(order, sent);
  } catch (error) {
    await recordRefusal(order, sent, error);
    order.undecided.delete(sent.id);
  }
}

/** Applies a command once per id, whether it is sent as a signal or as an update; a repetition gets the first answer. */
function applyOnce(order: RunningOrder, sent: SentCommand): Promise<CommandAnswer> {
  const { command, id, by } = sent;
  const known = order.answers.get(id);
  if (known) return known;
  const isRepetition = repeats(order, command);
  const answer = CancellationScope.nonCancellable(async () => {
    if (by !== 'run before') {
      if (isTooMany(order, command) && bounded()) throw tooMany(command);
      if (command === 'address') order.addressChanges += 1;
      if (isRepetition) order.repetitions += 1;
    }
    order.undecided.set(id, sent);
    try {
      const changed = await decide[command](order, sent);
      const given: CommandAnswer = { command, state: order.state, changed, ...hashIn(sent.arguments_hash) };
      if (!isRepetition) {
        order.applied.set(id, given);
        log.info('command accepted', { order_id: order.order_id, command, changed, step: order.step });
      }
      order.undecided.delete(id);
      return given;
    } catch (error) {
      if (by === 'update') order.undecided.delete(id);
      throw error;
    }
  });
  order.answers.set(id, answer);
  return answer;
}

async function approve(order: RunningOrder, { actor = FOREIGN_CALLER, proof }: SentCommand): Promise<boolean> {
  refuseIfTooLate(order, 'approve');
  if (order.approved) return false;
  refuseOwnOrder(order, actor);
  order.approved = true;
  order.approval = { by: actor, at: new Date().toISOString(), ...(proof !== undefined && { proof }) };
  if (order.state === 'awaiting_approval') order.state = 'approved';
  return true;
}

/** A cancel before the first shipping attempt is accepted at once. Later the carrier's key is closed first, because the carrier may have the parcel. */
async function cancel(order: RunningOrder, { argument, actor }: SentCommand): Promise<boolean> {
  refuseIfTooLate(order, 'cancel');
  if (order.cancel) return false;
  const accept = () => {
    if (order.cancel) return false;
    order.cancel = { reason: cancelReasonOf(argument), ...(actor && { by: actor }) };
    return true;
  };
  if (order.child_attempts === 0) return accept();
  return deciding(order, async () => {
    const answer = await runRemotely('close_parcel', { order_id: order.order_id });
    if (answer === 'taken') throw tooLate(order);
    return accept();
  });
}

/** A running shipping attempt uses the old address, so the change waits until the carrier has refused that attempt. */
async function changeAddress(order: RunningOrder, { argument, id, actor }: SentCommand): Promise<boolean> {
  const mayChange = () =>
    order.phase !== 'open' || (order.received && !order.carrierMayHaveParcel && order.pendingDecisions === 0);
  const change = async () => {
    refuseIfTooLate(order, 'address');
    const { order_id, child_attempts } = order;
    const sent = { order_id, address: argument, command_id: id, child_attempts, ...(actor && { actor }) };
    const updated = await runLocally('update_address', sent);
    if (updated.outcome === 'closed') throw tooLate(order);
    if (updated.outcome === 'invalid')
      throw refused('INVALID', 'the address is not valid', { errors: updated.problems });
    const changed = !sameAddress(order.input.address, updated.address);
    order.input = { ...order.input, address: updated.address };
    if (order.nextAttemptAt !== null) order.nextAttemptAt = 0;
    return changed;
  };
  return whenReady(mayChange, () => deciding(order, change));
}

/** Counts the decision as pending while it runs. */
async function deciding<T>(order: RunningOrder, decide: () => Promise<T>): Promise<T> {
  order.pendingDecisions += 1;
  try {
    return await decide();
  } finally {
    order.pendingDecisions -= 1;
  }
}

/** Whether the command repeats what already holds. */
function repeats(order: RunningOrder, command: Command): boolean {
  if (command === 'cancel') return order.cancel !== null;
  return command === 'approve' && order.approved && !order.cancel && order.phase !== 'settling';
}

/** Throws TOO_LATE when the order can't accept the command any more, unless the command repeats what already holds. */
function refuseIfTooLate(order: RunningOrder, command: Command): void {
  if (!repeats(order, command) && isTooLate(order)) throw tooLate(order);
}

/** Throws FORBIDDEN when the order's starter would approve it. */
function refuseOwnOrder(order: RunningOrder, actor: Actor): void {
  if (isSameActor(actorIn(order.input.started_by), actor))
    throw refused('FORBIDDEN', 'an order is approved by another than who started it');
}

const isTooLate = (order: RunningOrder): boolean => order.cancel !== null || order.phase !== 'open';

/**
 * Must not depend on how many of the earlier address changes are decided: local activities decide them, and a worker that takes over
 * redoes those that are not in the history yet, perhaps after signals that arrived meanwhile.
 */
function isTooMany(order: RunningOrder, command: Command): boolean {
  if (repeats(order, command)) return false;
  if (command === 'address') return order.addressChanges >= COMMAND_LIMITS.addressChanges;
  return waiting(order, command) >= COMMAND_LIMITS.undecided;
}

const waiting = (order: RunningOrder, command: Command): number =>
  [...order.undecided.values()].filter((sent) => sent.command === command).length;

const tooLate = (order: RunningOrder) =>
  refused('TOO_LATE', `too late: the order is ${order.state}`, { state: order.state });

const tooMany = (command: Command) => refused('TOO_MANY', `too many commands of this kind: ${command}`);

/** Not a refusal: it carries the answer, and leaves no trace in the history. */
const noChange = ({ state }: RunningOrder, command: Command) =>
  refused(NO_CHANGE, 'this holds already', { command, state, changed: false } satisfies CommandAnswer);

function refused(type: ErrorCode | typeof NO_CHANGE, message: string, details: unknown = {}): ApplicationFailure {
  return ApplicationFailure.create({ type, message, nonRetryable: true, details: [details] });
}

/** A signal has no answer, so its refusal becomes an event. A run that doesn't own the order writes none. */
async function recordRefusal(order: RunningOrder, { command, id, actor }: SentCommand, error: unknown): Promise<void> {
  const code = error instanceof ApplicationFailure ? (error.type as ErrorCode) : 'INTERNAL';
  log.info('command refused', { order_id: order.order_id, command, code, step: order.step });
  if (id === TEMPORAL_CANCEL) return;
  order.refusals += 1;
  if (order.refusals > COMMAND_LIMITS.recordedRefusals && bounded()) return;
  await CancellationScope.nonCancellable(async () => {
    await condition(() => order.received || order.phase !== 'open');
    const refusal = { command, id, code, state: order.state };
    if (order.received)
      await runLocally('refuse_command', { order_id: order.order_id, refusal, ...(actor && { actor }) });
  });
}

const hashIn = (given: unknown): { arguments_hash?: string } =>
  typeof given === 'string' && given.length <= 64 ? { arguments_hash: given } : {};

const MAX_PROOF_LENGTH = 2_000;
const proofIn = (given: unknown): { proof?: string } =>
  typeof given === 'string' && given.length <= MAX_PROOF_LENGTH ? { proof: given } : {};

const commandId = (given: unknown): string =>
  typeof given === 'string' && COMMAND_ID_PATTERN.test(given) ? given : uuid4();

function sameAddress(one: Address | null | undefined, other: Address): boolean {
  const keys = Object.keys(other);
  return Object.keys(one ?? {}).length === keys.length && keys.every((key) => one?.[key] === other[key]);
}
