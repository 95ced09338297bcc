/** The acts from which fast-check makes sequences: each is applied to the model and to the real order. */
import {
  COMMAND_NAMES,
  COMMANDS,
  type Command,
  cancelReasonOf,
  DEFAULT_CANCEL_REASON,
} from '@trellis/contracts/commands';
import fc from 'fast-check';
import type { Call } from '../workflow-fixture.ts';
import { type OrderModel, type Plan, UNREACHABLE } from './order-model.ts';
import { addressOf, type Message, type ModelRun } from './run.ts';

/** The real side of an act. Workers can be replaced only where they do not cache workflows. */
export interface Real {
  run: ModelRun;
  /** Number of acts since the order's end. */
  actsAfterEnd: number;
  replaceWorkers: ((meanwhile: () => Promise<void>) => Promise<void>) | undefined;
}

type Possible = (model: OrderModel) => boolean;

/** An ended order does not change any more, so a few acts on it are enough. */
const MAX_ACTS_AFTER_END = 2;

class Act implements fc.AsyncCommand<OrderModel, Real> {
  readonly name: string;
  readonly check: Possible;
  private readonly act: (real: Real) => Promise<void>;

  constructor(name: string, act: (real: Real) => Promise<void>, possible: Possible = () => true) {
    this.name = name;
    this.act = act;
    this.check = possible;
  }

  async run(model: OrderModel, real: Real): Promise<void> {
    if (model.stage === 'ended') real.actsAfterEnd += 1;
    if (real.actsAfterEnd > MAX_ACTS_AFTER_END) return;
    if (await real.run.ready(this.check)) await this.act(real);
  }

  toString = () => this.name;
}

const CITIES = ['Chicago', 'Boston', 'Denver', UNREACHABLE];
const INVALID_ADDRESSES: unknown[] = [
  undefined,
  null,
  42,
  'here',
  { line1: '1 Main' },
  { line1: '', city: 'Boston' },
  ['x'],
];
const INVALID_REASONS: unknown[] = [undefined, null, 42, { reason: 'x' }, ['x'], ''];
const INVALID_IDS: unknown[] = [undefined, null, 7, '', { id: 'k1' }, 'with space'];
const INVALID_JSON = '{"line1": ';
/** Few, so that several commands share an id. */
const ids = fc.option(fc.constantFrom('k1', 'k2'), { nil: undefined, freq: 2 });

let drawn = 0;
function fresh(): string {
  drawn += 1;
  return `fresh-${drawn}`;
}

interface Draft {
  command: Command;
  by: 'update' | 'signal';
  id: string | undefined;
  given: unknown;
  raw: boolean;
  badId: unknown;
}

/** For each command: its weight, and the first arguments with which it is sent, valid and malformed. */
const GIVEN: Record<Command, { weight: number; given: fc.Arbitrary<unknown> }> = {
  approve: { weight: 6, given: fc.constantFrom(...INVALID_ADDRESSES) },
  cancel: {
    weight: 1,
    given: fc.oneof(fc.constantFrom<unknown>('late', 'expensive', 'ugly'), fc.constantFrom(...INVALID_REASONS)),
  },
  address: {
    weight: 4,
    given: fc.oneof(
      { weight: 3, arbitrary: fc.constantFrom<unknown>(...CITIES.map(addressOf)) },
      fc.constantFrom(...INVALID_ADDRESSES),
    ),
  },
};

const drafts = (by: Draft['by'][]): fc.Arbitrary<Draft> =>
  fc.oneof(
    ...COMMAND_NAMES.map((command) => ({
      weight: GIVEN[command].weight,
      arbitrary: fc.record({
        command: fc.constant(command),
        by: fc.constantFrom(...by),
        id: ids,
        given: GIVEN[command].given,
        raw: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
        badId: fc.constantFrom(...INVALID_IDS),
      }),
    })),
  );

/** Whether the draft is a signal whose argument is sent as bytes that are not JSON. */
const asBytes = ({ command, by, raw }: Draft): boolean => raw && by === 'signal' && COMMANDS[command].argument !== null;

/** A new message of a draft each time: an act can run more than once. */
function messageOf(draft: Draft): Message {
  const { command, by, id, given, badId } = draft;
  const bytes = asBytes(draft);
  const { line1, city } = (given ?? {}) as { line1?: string; city?: string };
  const reason = command === 'cancel' && !bytes ? cancelReasonOf(given) : DEFAULT_CANCEL_REASON;
  const argument = COMMANDS[command].argument === null && by === 'signal' ? [] : [given];
  const idArgument = by === 'signal' ? [id ?? badId] : [];
  return {
    sent: {
      command,
      by,
      id: (bytes ? undefined : id) ?? fresh(),
      city: command === 'address' && !bytes && line1 ? (city ?? null) : null,
      reason,
      repetitions: [],
    },
    args: [...argument, ...idArgument],
    ...(bytes && { raw: INVALID_JSON }),
  };
}

function nameOf(draft: Draft): string {
  const { command, by, id, given, badId } = draft;
  const what = asBytes(draft) ? 'bytes' : (JSON.stringify(given) ?? 'nothing');
  return `${by} ${command}(${what}) as ${id ?? (by === 'signal' ? JSON.stringify(badId) : 'drawn')}`;
}

/** Whether the message is no cancel, or has another reason than the undecided cancels: only its reason tells which of them was decided first. */
const isDistinguishable = ({ cancels }: OrderModel, { sent }: Message): boolean =>
  sent.command !== 'cancel' || cancels.every(({ reason }) => reason !== sent.reason);

const commands = drafts(['update', 'signal']).map(
  (given) =>
    new Act(
      nameOf(given),
      ({ run }) => run.send(messageOf(given)),
      (model) => isDistinguishable(model, messageOf(given)),
    ),
);

const temporalCancel = fc.constant(
  new Act(
    'Temporal cancellation',
    ({ run }) =>
      run.send({
        sent: {
          command: 'cancel',
          by: 'temporal',
          id: fresh(),
          city: null,
          reason: 'temporal_cancel',
          repetitions: [],
        },
        args: [],
      }),
    (model) => model.stage !== 'ended' && !model.canceledByTemporal,
  ),
);

const isHeld = (model: OrderModel, call: Call): boolean =>
  call === 'close'
    ? model.cancels.length > 0
    : { charge: 'charge', dispatch: 'ship', refund: 'refund' }[call] === model.stage;

const act = (call: Call, does: string, how: (run: ModelRun) => Promise<void>) =>
  new Act(
    `${call} ${does}`,
    ({ run }) => how(run),
    (model) => isHeld(model, call),
  );

const CALLS: Call[] = ['charge', 'dispatch', 'close', 'refund'];
const answering = fc.constantFrom(...CALLS).map((call) => act(call, 'is answered', (run) => run.answer(call)));
const carriedOut = fc
  .constantFrom(...CALLS)
  .map((call) => act(call, 'is carried out, its answer is held', (run) => run.carryOut(call)));
const failing = fc.constantFrom(...CALLS).map((call) => act(call, 'fails', (run) => run.fail(call, 'at once')));
const invalidAnswer = fc
  .constantFrom(...CALLS)
  .map((call) => act(call, 'gets an invalid answer', (run) => run.fail(call, 'by Temporal')));
const hanging = fc.constantFrom('charge' as const, 'dispatch' as const).map(
  (call) =>
    new Act(
      `${call} times out`,
      ({ run }) => run.hang(call),
      // A payment that a late call has settled meanwhile is not charged again.
      (model) => isHeld(model, call) && (call !== 'charge' || model.payment === 'pending'),
    ),
);
const lateAnswer = fc.constant(
  new Act(
    'a late call is answered',
    ({ run }) => run.answerLate(),
    (model) => model.late.length > 0,
  ),
);

/** Time is skipped only while no activity runs. */
const atRest: Possible = (model) => ['review', 'backoff'].includes(model.stage) && model.cancels.length === 0;
const passing = fc
  .constantFrom(0.3, 0.8, 1)
  .map((share) => new Act(`${share} of the time left passes`, ({ run }) => run.passTime(share), atRest));
const timingOut = fc.constant(
  new Act(
    'the stage times out',
    ({ run }) => run.timeOut(),
    // A charge that a late call has settled meanwhile does not time out either.
    (model) =>
      model.timer !== undefined &&
      model.cancels.length === 0 &&
      (model.stage !== 'charge' || model.payment === 'pending'),
  ),
);

const otherOrder = fc.constant(new Act('another order uses the payment id', ({ run }) => run.otherOrder()));
const startAgain = fc
  .constantFrom('elsewhere' as const, 'use existing' as const, 'refuse' as const)
  .map((how) => new Act(`the order is started again: ${how}`, ({ run }) => run.startAgain(how)));
const foreignSignal = fc
  .constantFrom<[string, unknown[]]>(
    ['no_such_signal', [1]],
    ['dispatch_failed', ['from outside']],
    ['dispatch_failed', [null]],
  )
  .map(
    ([name, args]) =>
      new Act(
        `signal ${name}(${JSON.stringify(args)})`,
        ({ run }) => run.foreignSignal(name, args),
        (model) => model.stage !== 'ended',
      ),
  );

const filling = fc.constant(
  new Act(
    'the history is full',
    ({ run }) => run.fillHistory(),
    (model) => atRest(model) && model.addresses.length === 0,
  ),
);

/** Never with both an address and a cancel: the worker's order of processing, which is not fixed, would decide between them. */
const together = fc
  .array(drafts(['signal']), { maxLength: 3 })
  .filter(
    (all) => !(all.some(({ command }) => command === 'address') && all.some(({ command }) => command === 'cancel')),
  );
/** Signals or time, not both: the skipping server's clock stands still while a signal waits for a worker. */
const meanwhile = fc.oneof(
  together.map((signals) => ({ signals, late: false })),
  fc.constant<{ signals: Draft[]; late: boolean }>({ signals: [], late: true }),
);
const restart = meanwhile.map(
  ({ signals, late }) =>
    new Act(
      `the workers are replaced, meanwhile ${late ? 'the stage times out' : signals.map(nameOf).join(', ') || 'nothing'}`,
      async ({ run, replaceWorkers }) => {
        if (replaceWorkers)
          await run.restart(
            replaceWorkers,
            signals.map((one) => messageOf({ ...one, raw: false })),
            late,
          );
      },
      atRest,
    ),
);

/** Sequences of acts; an act that is impossible when its turn comes is skipped. */
export const sequences = (replayPath: string | undefined) =>
  fc.commands<OrderModel, Real, false>(
    [
      fc.oneof(
        { weight: 30, arbitrary: commands },
        { weight: 20, arbitrary: answering },
        { weight: 10, arbitrary: carriedOut },
        { weight: 4, arbitrary: failing },
        { weight: 2, arbitrary: invalidAnswer },
        { weight: 1, arbitrary: hanging },
        { weight: 6, arbitrary: lateAnswer },
        { weight: 3, arbitrary: passing },
        { weight: 3, arbitrary: timingOut },
        { weight: 2, arbitrary: otherOrder },
        { weight: 2, arbitrary: startAgain },
        { weight: 2, arbitrary: temporalCancel },
        { weight: 1, arbitrary: foreignSignal },
        { weight: 1, arbitrary: restart },
        { weight: 1, arbitrary: filling },
      ),
    ],
    { maxCommands: 25, size: 'max', ...(replayPath === undefined ? {} : { replayPath }) },
  );

const plan: fc.Arbitrary<Plan> = fc
  .record({
    card: fc.oneof({ weight: 9, arbitrary: fc.constant('good' as const) }, fc.constant('declined' as const)),
    city: fc.oneof({ weight: 3, arbitrary: fc.constant('Chicago') }, fc.constant(UNREACHABLE)),
    valid: fc.oneof({ weight: 19, arbitrary: fc.constant(true) }, fc.constant(false)),
    // Rare, because the testbed's clock no longer skips after it.
    lateCallsAfterEnd: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.constant(true)),
  })
  // 33 minutes, less the half hour reserved for the refund, leave the order three minutes.
  .map((drawnPlan) => ({ ...drawnPlan, timeoutMs: 33 * 60_000 }));

/** The conditions under which an order starts. */
export const beginnings = fc.record({
  plan,
  withStart: fc.option(
    drafts(['signal']).map((one) => ({
      toString: () => nameOf({ ...one, raw: false }),
      message: () => messageOf({ ...one, raw: false }),
    })),
    { freq: 3, nil: undefined },
  ),
  /** Whether the workers cache workflows or replay the whole history at every workflow task. */
  workers: fc.constantFrom('cache' as const, 'replay' as const),
  /** Seed of flaky_call's faults; none when undefined. */
  flaky: fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, fc.integer()),
});
