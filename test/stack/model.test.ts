/** Random lives of orders, each compared with a model of the design after every act. */
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
    /** What `npm run model` was asked for. */
    model:
      | { runs: number; seed?: number | undefined; path?: string | undefined; replay?: string | undefined }
      | undefined;
  }
}

type Workers = 'remember' | 'forget';

/** Set by `npm run model`. */
const { runs = 200, seed = Math.floor(Math.random() * 2 ** 31), path, replay } = inject('model') ?? {};
/** An order mostly waits, so several are under way at once, each on servers of its own. */
const LANES = path === undefined ? 3 : 1;
/** Most of it is for making a counterexample smaller. */
const TIME_LIMIT_MS = 300_000 + runs * 3_000;
/** Servers are shared by so many orders, one after the other: their memory grows with what they have seen. */
const ORDERS_PER_TESTBED = 100;
/** A clock that skips takes no time for it. */
const SKIPS_WITHIN_MS = 500;

interface Open {
  bed: Testbed;
  stop: () => Promise<void>;
  /** What flaky_call draws from; there are no faults when absent. */
  random: (() => number) | undefined;
  /** What happened to its orders, by workflow. */
  lives: Map<string, string>;
}

test('an order does what its model says, whatever happens to it', { timeout: TIME_LIMIT_MS }, async () => {
  const lanes = await Promise.all(Array.from({ length: LANES }, (_, lane) => check(lane)));
  const sum = (key: 'numRuns' | 'numSkips') => lanes.reduce((total, lane) => total + lane[key], 0);
  process.stdout.write(`model: ${sum('numRuns')} orders, ${sum('numSkips')} undecidable, seed ${seed}\n`);
  for (const lane of lanes)
    if (lane.failed) throw new Error(await fc.asyncDefaultReportMessage(lane), { cause: lane.errorInstance });
});

/** Runs a lane's share of the orders, one after the other. */
async function check(lane: number) {
  const testbeds = new Map<Workers, Open>();

  async function testbedOf(workers: Workers): Promise<Open> {
    const known = testbeds.get(workers);
    if (known && known.lives.size < ORDERS_PER_TESTBED && (await skips(known.bed))) return known;
    testbeds.delete(workers);
    if (known) await closeTestbed(known);
    const flakyCall = async () => {
      if (open.random) await flaky_call(open.random);
    };
    const bed = await openTestbed({ queues: [], flakyCall, cacheWorkflows: workers === 'remember' });
    const open: Open = {
      bed,
      stop: await bed.startWorkers('orders', 'shipping'),
      random: undefined,
      lives: new Map(),
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
          open.lives.set(run.placed.handle.workflowId, `${JSON.stringify(plan)}, ${[...acts].join(', ')}`);
          const replaceWorkers =
            workers === 'forget' ? (meanwhile: () => Promise<void>) => replace(open, meanwhile) : undefined;
          return { model: run.model, real: { run, afterwards: 0, replaceWorkers } satisfies Real };
        };
        await open.bed.env.connection.withAbortSignal(ended.signal, async () => {
          await fc.asyncModelRun(real, acts);
          await run?.finish();
        });
      } catch (error) {
        // Nobody knows what it left behind.
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

/** The skipping server stops its clock for ever for an activity whose workflow has closed over it. */
async function skips({ env }: Testbed): Promise<boolean> {
  const skipped = env.connection.withAbortSignal(AbortSignal.timeout(SKIPS_WITHIN_MS), () =>
    env.sleep(2 * SKIPS_WITHIN_MS),
  );
  return skipped.then(
    () => true,
    () => false,
  );
}

/** Closes the bed; none of its orders may have left anything wrong. */
async function closeTestbed({ bed, lives }: Open): Promise<void> {
  const violations = (await bed.violations()).map(String);
  await bed.close();
  const culprits = [...lives].filter(([id]) => violations.some((wrong) => wrong.includes(id)));
  expect(violations, culprits.map(([id, life]) => `${id}: ${life}`).join('\n')).toEqual([]);
}

async function replace(open: Open, meanwhile: () => Promise<void>): Promise<void> {
  await open.stop();
  await meanwhile();
  open.stop = await open.bed.startWorkers('orders', 'shipping');
}
