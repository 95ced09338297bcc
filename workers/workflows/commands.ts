/** The commands on a running order. A refused update fails with a typed failure, a refused signal is recorded as an event. */

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
import { COMMAND_NAMES, COMMANDS, type Command, type CommandAnswer, cancelReasonOf } from '@trellis/contracts/commands';
import type { ErrorCode, ErrorDetails } from '@trellis/contracts/error';
import { COMMAND_ID_PATTERN } from '@trellis/contracts/id';
import type { Address } from '@trellis/contracts/order';
import type { WorkflowStatus } from '@trellis/contracts/order-status';
import { DISPATCH_FAILED_SIGNAL, STATUS_QUERY } from '@trellis/contracts/temporal';
import { runLocally, runRemotely } from './run-activity.ts';
import { type RunningOrder, statusOf, whenReady } from './running-order.ts';

/** Registers the order's query, commands and signals. Call it before the first await, in the workflow's root scope. */
export function acceptCommands(order: RunningOrder): void {
  setHandler(defineQuery<WorkflowStatus>(STATUS_QUERY), () => statusOf(order));

  const decide: Record<Command, Decide> = {
    approve: () => approve(order),
    cancel: (reason) => cancel(order, reason),
    address: (address, id) => changeAddress(order, address, id),
  };
  for (const command of COMMAND_NAMES) accept(order, command, decide[command]);

  setHandler(defineSignal<[unknown]>(DISPATCH_FAILED_SIGNAL), (reason) => {
    order.dispatch_failed_reason = typeof reason === 'string' ? reason.slice(0, 500).toWellFormed() : 'no reason given';
  });

  // A Temporal cancellation is a cancel command. It has no answer and no command id, so a refusal is only logged.
  CancellationScope.current().cancelRequested.catch(() =>
    CancellationScope.nonCancellable(() => cancel(order, 'temporal_cancel')).catch((error: Error) =>
      log.info(error.message),
    ),
  );
}

type Decide = (argument: unknown, id: string) => Promise<boolean>;
/** Not validated: a caller may send any values. */
type Arguments = [unknown?, unknown?];

/** Registers a command's update and its signal, both with the handler `decide`. The signal's last argument may be the command's id. */
function accept(order: RunningOrder, command: Command, decide: Decide): void {
  const idAt = COMMANDS[command].argument === null ? 0 : 1;

  setHandler<CommandAnswer, Arguments, UpdateDefinition<CommandAnswer, Arguments>>(
    defineUpdate(COMMANDS[command].temporal),
    (argument) => {
      const id = commandId(currentUpdateInfo()?.id);
      return applyOnce(order, command, id, () => decide(argument, id));
    },
    {
      // An update that the validator refuses is not recorded in the history.
      validator: () => {
        if (!order.answers.has(currentUpdateInfo()?.id ?? '')) refuseIfTooLate(order, command);
      },
    },
  );

  setHandler(defineSignal<Arguments>(COMMANDS[command].temporal), async (...args) => {
    const id = commandId(args[idAt]);
    try {
      await applyOnce(order, command, id, () => decide(args[0], id));
    } catch (error) {
      await recordRefusal(order, command, id, error);
    }
  });
}

/** Applies a command once per id, whether it is sent as a signal or as an update; a repetition gets the first answer. */
function applyOnce(
  order: RunningOrder,
  command: Command,
  id: string,
  decide: () => Promise<boolean>,
): Promise<CommandAnswer> {
  const known = order.answers.get(id);
  if (known) return known;
  const answer = CancellationScope.nonCancellable(async () => {
    const changed = await decide();
    log.info('command accepted', { order_id: order.order_id, command, changed, step: order.step });
    return { command, state: order.state, changed };
  });
  order.answers.set(id, answer);
  return answer;
}

async function approve(order: RunningOrder): Promise<boolean> {
  refuseIfTooLate(order, 'approve');
  if (order.approved) return false;
  order.approved = true;
  if (order.state === 'awaiting_approval') order.state = 'approved';
  return true;
}

/** A cancel before the first shipping attempt is accepted at once. Later the carrier's key is closed first, because the carrier may have the parcel. */
async function cancel(order: RunningOrder, given: unknown): Promise<boolean> {
  refuseIfTooLate(order, 'cancel');
  if (order.cancel) return false;
  const decide = () => {
    if (order.cancel) return false;
    order.cancel = { reason: cancelReasonOf(given) };
    return true;
  };
  if (order.child_attempts === 0) return decide();
  return deciding(order, async () => {
    const answer = await runRemotely('close_parcel', { order_id: order.order_id });
    if (answer === 'taken') throw tooLate(order);
    return decide();
  });
}

/** A running shipping attempt uses the old address, so the change waits until the carrier has refused that attempt. */
async function changeAddress(order: RunningOrder, given: unknown, id: string): Promise<boolean> {
  const mayChange = () =>
    order.phase !== 'open' || (order.received && !order.carrierMayHaveParcel && order.pendingDecisions === 0);
  const change = async () => {
    refuseIfTooLate(order, 'address');
    const updated = await runLocally('update_address', { order_id: order.order_id, address: given, command_id: id });
    if (updated.outcome === 'closed') throw tooLate(order);
    if (updated.outcome === 'invalid')
      throw refused('INVALID', 'the address is not valid', { errors: updated.problems });
    const changed = !sameAddress(order.input.address, updated.address);
    order.input = { ...order.input, address: updated.address };
    order.addressChanges += 1;
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

/** Throws TOO_LATE when the order can't accept the command any more, unless the command repeats what already holds. */
function refuseIfTooLate(order: RunningOrder, command: Command): void {
  if (command === 'cancel' && order.cancel) return;
  if (command === 'approve' && order.approved && !order.cancel && order.phase !== 'settling') return;
  if (order.cancel || order.phase !== 'open') throw tooLate(order);
}

const tooLate = (order: RunningOrder) =>
  refused('TOO_LATE', `too late: the order is ${order.state}`, { state: order.state });

function refused(code: ErrorCode, message: string, details: ErrorDetails): ApplicationFailure {
  return ApplicationFailure.create({ type: code, message, nonRetryable: true, details: [details] });
}

/** A signal has no answer, so its refusal becomes an event. A run that doesn't own the order writes none. */
async function recordRefusal(order: RunningOrder, command: Command, id: string, error: unknown): Promise<void> {
  const code = error instanceof ApplicationFailure ? (error.type as ErrorCode) : 'INTERNAL';
  log.info('command refused', { order_id: order.order_id, command, code, step: order.step });
  await CancellationScope.nonCancellable(async () => {
    await condition(() => order.received || order.phase !== 'open');
    const refusal = { command, id, code, state: order.state };
    if (order.received) await runLocally('refuse_command', { order_id: order.order_id, refusal });
  });
}

const commandId = (given: unknown): string =>
  typeof given === 'string' && COMMAND_ID_PATTERN.test(given) ? given : uuid4();

function sameAddress(one: Address | null | undefined, other: Address): boolean {
  const keys = Object.keys(other);
  return Object.keys(one ?? {}).length === keys.length && keys.every((key) => one?.[key] === other[key]);
}
