/** A worker whose machine's clock is wrong serves orders as one whose clock is right. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { startWorker } from '@trellis/local/stack/node-programs';
import { describe, inject, test } from 'vitest';
import { freshId } from '../fixtures.ts';
import { need } from '../servers.ts';
import { openTestbed } from '../workflow-fixture.ts';

const { TEMPORAL_ADDRESS } = await need('database', 'temporal');
const SHIM = new URL('../trials/shifted-clock.ts', import.meta.url).href;
/** More than any wait of a test, and than an order's time. */
const WRONG_BY_MS = 60_000;
const JUMPS_AFTER_MS = 5_000;

describe.concurrent('a worker whose clock', () => {
  test.for([
    { clock: 'is a minute ahead', jumps: {} },
    { clock: 'is set ahead by a minute while it runs', jumps: { CLOCK_JUMP_AFTER_MS: `${JUMPS_AFTER_MS}` } },
  ])('$clock ships orders, and takes none of it for overload', async ({ jumps }, { expect, onTestFinished }) => {
    const bed = await openTestbed({ queues: [], clock: 'real' });
    const name = freshId('worker');
    const worker = await startWorker({
      folder: inject('folder'),
      name,
      env: {
        DATABASE_URL: bed.databaseUrl,
        TEMPORAL_ADDRESS,
        TEMPORAL_NAMESPACE: bed.env.namespace ?? '',
        FLAKY_CALL: 'off',
        LOG_LEVEL: 'debug',
        NODE_OPTIONS: `--import=${SHIM}`,
        CLOCK_SHIFT_MS: `${WRONG_BY_MS}`,
        ...jumps,
      },
    });
    onTestFinished(async () => {
      await worker.stop();
      await bed.close();
    });
    expect(await (await bed.placeApproved()).end()).toBe('shipped');
    await setTimeout(JUMPS_AFTER_MS);
    expect(await (await bed.placeApproved()).end()).toBe('shipped');
    // The measurement of the last second.
    await setTimeout(1_500);
    const lines = readFileSync(join(inject('folder'), 'logs', `${name}.log`), 'utf8').split('\n');
    const measured = lines.filter((line) => line.includes('capacity measured')).map((line) => JSON.parse(line));
    expect(measured.length).toBeGreaterThanOrEqual(2);
    for (const { latency } of measured) expect(Math.abs(latency)).toBeLessThan(WRONG_BY_MS / 2);
  });
});
