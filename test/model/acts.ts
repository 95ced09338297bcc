/** What fast-check lets happen to an order: each act is done to the model and to the real order alike. */
import type { Command } from '@trellis/contracts/command';
import fc from 'fast-check';
import type { Call } from '../workflow-fixture.ts';
import type { OrderModel, Plan } from './order-model.ts';
import { UNREACHABLE } from './order-model.ts';
import type { Message, ModelRun } from './run.ts';
import { addressOf } from './run.ts';

/** What the acts act on; the workers can be replaced only where they forget. */
export interface Real {
  run: ModelRun;
  /** Acts on the order since its end. */
  afterwards: number;
  replaceWorkers: ((meanwhile: () => Promise<void>) => Promise<void>) | undefined;
}

type Possible = (model: OrderModel) => boolean;

/** Nothing new happens to an order that has ended. */
const MAX_AFTERWARDS = 2;

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
    if (model.stop === 'over') real.afterwards += 1;
    if (real.afterwards > MAX_AFTERWARDS) return;
    if (await real.run.ready(this.check)) await this.act(real);
  }

  toString = () => this.name;
}

const CITIES = ['Chicago', 'Boston', 'Denver', UNREACHABLE];
const NO_ADDRESS: unknown[] = [undefined, null, 42, 'here', { line1: '1 Main' }, { line1: '', city: 'Boston' }, ['x']];
const NO_REASON: unknown[] = [undefined, null, 42, { reason: 'x' }, ['x'], ''];
const NO_ID: unknown[] = [undefined, null, 7, '', { id: 'k1' }, 'with space'];
const NO_JSON = '{"line1": ';
/** Few, so that commands meet again. */
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

const drafts = (by: Draft['by'][]): fc.Arbitrary<Draft> =>
  fc.oneof(
    { weight: 6, arbitrary: draft('approve', by, fc.constantFrom<unknown>(...NO_ADDRESS)) },
    {
      weight: 1,
      arbitrary: draft('cancel', by, fc.oneof(fc.constantFrom('late', 'dear', 'ugly'), fc.constantFrom(...NO_REASON))),
    },
    {
      weight: 4,
      arbitrary: draft(
        'address',
        by,
        fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...CITIES).map(addressOf) }, fc.constantFrom(...NO_ADDRESS)),
      ),
    },
  );

const draft = (command: Command, by: Draft['by'][], given: fc.Arbitrary<unknown>): fc.Arbitrary<Draft> =>
  fc.record({
    command: fc.constant(command),
    by: fc.constantFrom(...by),
    id: ids,
    given,
    raw: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    badId: fc.constantFrom(...NO_ID),
  });

/** A draft becomes a new message each time it is sent. */
function messageOf({ command, by, id, given, raw, badId }: Draft): Message {
  const city = (given as { city?: string; line1?: string } | null | undefined)?.line1
    ? (given as { city?: string }).city
    : undefined;
  const asBytes = raw && by === 'signal' && command !== 'approve';
  const reason = typeof given === 'string' && given !== '' && command === 'cancel' && !asBytes ? given : 'user_request';
  const argument = command === 'approve' && by === 'signal' ? [] : [given];
  const idArgument = by === 'signal' ? [id ?? badId] : [];
  return {
    asked: {
      command,
      by,
      id: (asBytes ? undefined : id) ?? fresh(),
      city: command === 'address' && !asBytes ? (city ?? null) : null,
      reason,
      echoes: [],
    },
    args: [...argument, ...idArgument],
    ...(asBytes && { raw: NO_JSON }),
  };
}

function nameOf({ command, by, id, given, raw, badId }: Draft): string {
  const what = raw && by === 'signal' && command !== 'approve' ? 'bytes' : (JSON.stringify(given) ?? 'nothing');
  return `${by} ${command}(${what}) as ${id ?? (by === 'signal' ? JSON.stringify(badId) : 'drawn')}`;
}

const commands = drafts(['update', 'signal']).map(
  (given) => new Act(nameOf(given), ({ run }) => run.send(messageOf(given))),
);

const temporalCancel = fc.constant(
  new Act(
    'Temporal cancellation',
    ({ run }) =>
      run.send({
        asked: { command: 'cancel', by: 'temporal', id: fresh(), city: null, reason: 'temporal_cancel', echoes: [] },
        args: [],
      }),
    (model) => model.stop !== 'over' && !model.canceledByTemporal,
  ),
);

const waits = (model: OrderModel, call: Call): boolean =>
  call === 'close'
    ? model.cancels.length > 0
    : { charge: 'charge', dispatch: 'ship', refund: 'refund' }[call] === model.stop;

const act = (call: Call, does: string, how: (run: ModelRun) => Promise<void>) =>
  new Act(
    `${call} ${does}`,
    ({ run }) => how(run),
    (model) => waits(model, call),
  );

const CALLS: Call[] = ['charge', 'dispatch', 'close', 'refund'];
const answered = fc.constantFrom(...CALLS).map((call) => act(call, 'is answered', (run) => run.answer(call)));
const heard = fc.constantFrom(...CALLS).map((call) => act(call, 'is heard, its answer late', (run) => run.hear(call)));
const failing = fc.constantFrom(...CALLS).map((call) => act(call, 'breaks off', (run) => run.fail(call, 'at once')));
const garbled = fc
  .constantFrom(...CALLS)
  .map((call) => act(call, 'gets an answer without sense', (run) => run.fail(call, 'by Temporal')));
const hanging = fc.constantFrom('charge' as const, 'dispatch' as const).map(
  (call) =>
    new Act(
      `${call} hangs`,
      ({ run }) => run.hang(call),
      // What a late call has told us meanwhile needs no asking anew.
      (model) => waits(model, call) && (call !== 'charge' || model.payment === 'pending'),
    ),
);
const waking = fc.constant(
  new Act(
    'a late call wakes',
    ({ run }) => run.wake(),
    (model) => model.late.length > 0,
  ),
);

/** Time passes only while no activity is under way. */
const atRest: Possible = (model) => ['review', 'pause'].includes(model.stop) && model.cancels.length === 0;
const lingering = fc
  .constantFrom(0.3, 0.8, 1)
  .map((share) => new Act(`${share} of the time left passes`, ({ run }) => run.linger(share), atRest));
const waiting = fc.constant(
  new Act(
    'time runs out',
    ({ run }) => run.waitOut(),
    // A charge that a late call has brought meanwhile needs no company.
    (model) =>
      model.timer !== undefined &&
      model.cancels.length === 0 &&
      (model.stop !== 'charge' || model.payment === 'pending'),
  ),
);

const rival = fc.constant(new Act('another order uses the card', ({ run }) => run.rival()));
const startAgain = fc
  .constantFrom('elsewhere' as const, 'use existing' as const, 'refuse' as const)
  .map((how) => new Act(`the order is started again: ${how}`, ({ run }) => run.startAgain(how)));
const stranger = fc
  .constantFrom<[string, unknown[]]>(
    ['no_such_signal', [1]],
    ['dispatch_failed', ['so they say']],
    ['dispatch_failed', [null]],
  )
  .map(
    ([name, args]) =>
      new Act(
        `signal ${name}(${JSON.stringify(args)})`,
        ({ run }) => run.stranger(name, args),
        (model) => model.stop !== 'over',
      ),
  );

/** An address and a cancel that arrive together are decided by what the worker takes up first. */
const together = fc
  .array(drafts(['signal']), { maxLength: 3 })
  .filter(
    (all) => !(all.some(({ command }) => command === 'address') && all.some(({ command }) => command === 'cancel')),
  );
/** The skipping server's clock stands still while a signal waits for a worker, so it is either signals or time. */
const meanwhile = fc.oneof(
  together.map((signals) => ({ signals, late: false })),
  fc.constant<{ signals: Draft[]; late: boolean }>({ signals: [], late: true }),
);
const restart = meanwhile.map(
  ({ signals, late }) =>
    new Act(
      `the workers are replaced, meanwhile ${late ? 'time runs out' : signals.map(nameOf).join(', ') || 'nothing'}`,
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

/** Any sequence of what can happen; what can't happen to the order at its turn is left out. */
export const sequences = (replayPath: string | undefined) =>
  fc.commands<OrderModel, Real, false>(
    [
      fc.oneof(
        { weight: 30, arbitrary: commands },
        { weight: 20, arbitrary: answered },
        { weight: 10, arbitrary: heard },
        { weight: 4, arbitrary: failing },
        { weight: 2, arbitrary: garbled },
        { weight: 1, arbitrary: hanging },
        { weight: 6, arbitrary: waking },
        { weight: 3, arbitrary: lingering },
        { weight: 3, arbitrary: waiting },
        { weight: 2, arbitrary: rival },
        { weight: 2, arbitrary: startAgain },
        { weight: 2, arbitrary: temporalCancel },
        { weight: 1, arbitrary: stranger },
        { weight: 1, arbitrary: restart },
      ),
    ],
    { maxCommands: 25, size: 'max', ...(replayPath === undefined ? {} : { replayPath }) },
  );

const plan: fc.Arbitrary<Plan> = fc
  .record({
    card: fc.oneof({ weight: 9, arbitrary: fc.constant('good' as const) }, fc.constant('declined' as const)),
    city: fc.oneof({ weight: 3, arbitrary: fc.constant('Chicago') }, fc.constant(UNREACHABLE)),
    sound: fc.oneof({ weight: 19, arbitrary: fc.constant(true) }, fc.constant(false)),
    // It spoils the servers for the orders that follow, so it is rare.
    outlived: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.constant(true)),
  })
  // The caller's timeout, less what is kept back for a refund, leaves the order three minutes.
  .map((drawnPlan) => ({ ...drawnPlan, timeoutMs: 33 * 60_000 }));

/** How an order begins. */
export const beginnings = fc.record({
  plan,
  withStart: fc.option(
    drafts(['signal']).map((one) => ({
      toString: () => nameOf({ ...one, raw: false }),
      message: () => messageOf({ ...one, raw: false }),
    })),
    { freq: 3, nil: undefined },
  ),
  /** Whether the workers keep workflows in memory, or replay each from its history at every task. */
  workers: fc.constantFrom('remember' as const, 'forget' as const),
  /** Seeds flaky_call; without it there are no faults. */
  flaky: fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, fc.integer()),
});
