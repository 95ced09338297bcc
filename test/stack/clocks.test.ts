/** A worker whose machine's clock is wrong serves orders as one whose clock is right. */
import { createCapacityStore } from '@trellis/drizzle/capacity';
import { startWorker } from '@trellis/local/stack/node-programs';
import { describe, inject, test } from 'vitest';
import { anOrder, freshId } from '../fixtures.ts';
import { need } from '../servers.ts';
import { openTestbed } from '../workflow-fixture.ts';

const { TEMPORAL_ADDRESS } = await need('database', 'temporal');
const SHIM = new URL('../trials/shifted-clock.ts', import.meta.url).href;
const UNREACHABLE = { line1: '123 Main', city: 'Unreachable' };

const CLOCKS = [
  { clock: 'is 300 ms ahead', env: { CLOCK_SHIFT_MS: '300' } },
  { clock: 'is set ahead by 13 s while it runs', env: { CLOCK_SHIFT_MS: '13000', CLOCK_JUMP_AFTER_MS: '5000' } },
];

describe.concurrent('a worker whose clock', () => {
  test.for(CLOCKS)(
    '$clock ships orders, refuses an unreachable address as such, and lowers no rate',
    { timeout: 60_000 },
    async ({ env }, { expect, onTestFinished }) => {
      const bed = await openTestbed({ queues: [], clock: 'real' });
      const servers = {
        DATABASE_URL: bed.databaseUrl,
        TEMPORAL_ADDRESS,
        TEMPORAL_NAMESPACE: bed.env.namespace ?? '',
      };
      const worker = await startWorker({
        folder: inject('folder'),
        name: freshId('worker'),
        env: { ...servers, FLAKY_CALL: 'off', NODE_OPTIONS: `--import=${SHIM}`, ...env },
      });
      onTestFinished(async () => {
        await worker.stop();
        await bed.close();
      });

      const unreachable = await bed.placeApproved(anOrder({ address: UNREACHABLE }));
      // For longer than an overload must last before the rate is lowered.
      for (let order = 0; order < 7; order += 1) {
        expect(await (await bed.placeApproved()).end()).toBe('shipped');
        await new Promise((resolve) => setTimeout(resolve, 700));
      }
      expect((await createCapacityStore(bed.db).rates(10)).ordersPerSecond).toBeGreaterThanOrEqual(8);
      expect(await unreachable.end()).toBe('failed');
      expect(await unreachable.row()).toMatchObject({ reason: 'CARRIER_REFUSED' });
    },
  );
});
