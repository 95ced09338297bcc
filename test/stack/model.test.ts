/** Random sequences of acts on orders; after each act the order is compared with a model of the design. */
import { newEncryptionKey } from '@trellis/local/stack/encryption';
import { flaky_call } from '@trellis/workers/activities/flaky-call';
import fc from 'fast-check';
import { expect, inject, test } from 'vitest';
import { seeded } from '../fixtures.ts';
import { beginnings, type Real, sequences } from '../model/acts.ts';
import { Undecidable } from '../model/order-model.ts';
import { beginRun, type ModelRun } from '../model/run.ts';
import { openTestbed, type Testbed } from '../workflow-fixture.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The options of `npm run model`. */
    model:
      | { runs: number; seed?: number | undefined; path?: string | undefined; replay?: string | undefined }
      | undefined;
  }
}

type Workers = 'cache' | 'replay';

/** Set by `npm run model`. */
const { runs = 200, seed = Math.floor(Math.random() * 2 ** 31), path, replay } = inject('model') ?? {};
/** Whether what Temporal stores of a lane's orders is encrypted: as the environment says, else in every other lane. */
const encryptOf = (lane: number): string => process.env.ENCRYPT ?? (lane % 2 === 0 ? 'off' : 'on');
/** An order mostly waits, so several run concurrently, each on a testbed of its own. */
const LANES = path === undefined ? 3 : 1;
/** Most of this time is for shrinking a counterexample. */
const TIME_LIMIT_MS = 300_000 + runs * 3_000;
/** A testbed serves this many orders, one after the other: its servers' memory grows with each. */
const ORDERS_PER_TESTBED = 100;
/** A skipping clock sleeps twice this long in less than this time. */
const SKIPS_WITHIN_MS = 500;

interface OpenTestbed {
  bed: Testbed;
  /** Stops its workers. */
  stop: () => Promise<void>;
  /** The source of flaky_call's faults; none when undefined. */
  random: (() => number) | undefined;
  /** The plan and the acts of each order, by workflow id. */
  sequences: Map<string, string>;
}

test('an order agrees with its model after every act of a random sequence', { timeout: TIME_LIMIT_MS }, async () => {
  const lanes = await Promise.all(Array.from({ length: LANES }, (_, lane) => check(lane)));
  const sum = (key: 'numRuns' | 'numSkips') => lanes.reduce((total, lane) => total + lane[key], 0);
  process.stdout.write(`model: ${sum('numRuns')} orders, ${sum('numSkips')} undecidable, seed ${seed}\n`);
  for (const [n, lane] of lanes.entries()) {
    if (!lane.failed) continue;
    const report = await fc.asyncDefaultReportMessage(lane);
    throw new Error(`ENCRYPT=${encryptOf(n)}: ${report}`, { cause: lane.errorInstance });
  }
});

/** Runs a lane's share of the orders, one after the other. */
async function check(lane: number) {
  const testbeds = new Map<Workers, OpenTestbed>();
  const key = { ENCRYPTION_KEYS: [newEncryptionKey()], ENCRYPT: 'on' } as const;
  const encryption = encryptOf(lane) === 'on' ? { encryption: key } : {};

  async function testbedOf(workers: Workers): Promise<OpenTestbed> {
    const known = testbeds.get(workers);
    if (known && known.sequences.size < ORDERS_PER_TESTBED && (await skips(known.bed))) return known;
    testbeds.delete(workers);
    if (known) await closeTestbed(known);
    const flakyCall = async () => {
      if (open.random) await flaky_call(open.random);
    };
    const bed = await openTestbed({ queues: [], flakyCall, cacheWorkflows: workers === 'cache', ...encryption });
    const open: OpenTestbed = {
      bed,
      stop: await bed.startWorkers('orders', 'shipping'),
      random: undefined,
      sequences: new Map(),
    };
    testbeds.set(workers, open);
    return open;
  }

  const property = fc.asyncProperty(
    beginnings,
    sequences(replay),
    async ({ plan, withStart, workers, flaky }, acts) => {
      const open = await testbedOf(workers);
      open.random = flaky === undefined ? undefined : seeded(flaky);
      let run: ModelRun | undefined;
      const ended = new AbortController();
      try {
        const real = async () => {
          run = await beginRun(open.bed, plan, withStart?.message());
          open.sequences.set(run.placed.handle.workflowId, `${JSON.stringify(plan)}, ${[...acts].join(', ')}`);
          const replaceWorkers =
            workers === 'replay' ? (meanwhile: () => Promise<void>) => replace(open, meanwhile) : undefined;
          return { model: run.model, real: { run, actsAfterEnd: 0, replaceWorkers } satisfies Real };
        };
        await open.bed.env.connection.withAbortSignal(ended.signal, async () => {
          await fc.asyncModelRun(real, acts);
          await run?.finish();
        });
      } catch (error) {
        // The testbed's state is unknown after a failure.
        testbeds.delete(workers);
        await run?.release();
        ended.abort();
        await open.bed.close();
        if (error instanceof Undecidable) fc.pre(false);
        throw error;
      }
    },
  );
  const checked = await fc.check(property, {
    numRuns: Math.ceil(runs / LANES),
    seed: seed + lane,
    ...(path === undefined ? {} : { path }),
  });
  for (const open of testbeds.values()) await closeTestbed(open);
  return checked;
}

/** Whether the clock still skips: it stops for good once a workflow has ended while one of its activities hangs. */
async function skips({ env }: Testbed): Promise<boolean> {
  const skipped = env.connection.withAbortSignal(AbortSignal.timeout(SKIPS_WITHIN_MS), () =>
    env.sleep(2 * SKIPS_WITHIN_MS),
  );
  return skipped.then(
    () => true,
    () => false,
  );
}

/** Checks the testbed's orders for violations and closes it. */
async function closeTestbed({ bed, sequences: all }: OpenTestbed): Promise<void> {
  const violations = (await bed.violations()).map(String);
  await bed.close();
  const affected = [...all].filter(([id]) => violations.some((violation) => violation.includes(id)));
  expect(violations, affected.map(([id, sequence]) => `${id}: ${sequence}`).join('\n')).toEqual([]);
}

async function replace(open: OpenTestbed, meanwhile: () => Promise<void>): Promise<void> {
  await open.stop();
  await meanwhile();
  open.stop = await open.bed.startWorkers('orders', 'shipping');
}
