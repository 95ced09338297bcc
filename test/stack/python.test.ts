import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { pythonPackage } from '@trellis/local/stack/programs';
import { expect, test } from 'vitest';
import { freshId } from '../fixtures.ts';
import { need } from '../servers.ts';

const { TEMPORAL_ADDRESS } = await need('temporal', 'worker');
const SDK = 'temporalio==1.24.0';
const caller = fileURLToPath(new URL('../callers/caller.py', import.meta.url));

test('a Python client that uses only the documented names starts, approves, queries and cancels orders', async () => {
  const library = await pythonPackage(SDK);
  const { stdout } = await promisify(execFile)('python3', [caller, TEMPORAL_ADDRESS, freshId('py')], {
    env: { ...process.env, PYTHONPATH: library },
  });
  expect(JSON.parse(stdout)).toMatchObject({
    seen: { approved: true, canceled: false, child_attempts: expect.any(Number) },
    result: 'shipped',
    null_address: 'failed',
    cancel_answer: { command: 'cancel', changed: true },
    canceled: 'canceled',
    cancel_reason: 'user_request',
  });
}, 120_000);
