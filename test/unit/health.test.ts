/** The worker's health port. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { serveHealth } from '@trellis/workers/health';
import { expect, onTestFinished, test } from 'vitest';
import { eventually } from '../fixtures.ts';

test('however often it is asked, it asks the servers once a second, and says at once that the worker stops', async () => {
  const asked: number[] = [];
  let [answers, serves] = [true, true];
  const server = await serveHealth({
    port: 0,
    serves: () => serves,
    checks: {
      async database() {
        asked.push(performance.now());
        if (!answers) throw new Error('no answer');
      },
    },
  });
  onTestFinished(async () => {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  });
  const { port } = server.address() as AddressInfo;
  const readyz = async () => {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`);
    return { status: response.status, body: await response.json() };
  };

  const began = performance.now();
  const all = await Promise.all(Array.from({ length: 20 }, readyz));
  expect(new Set(all.map(({ status }) => status))).toEqual(new Set([200]));
  answers = false;
  expect(await eventually(async () => (await readyz()).status === 503 && readyz())).toEqual({
    status: 503,
    body: { ok: false, unreachable: ['database'] },
  });
  answers = true;
  await eventually(async () => (await readyz()).status === 200);
  serves = false;
  expect(await readyz()).toEqual({ status: 503, body: { ok: false, unreachable: [] } });
  expect(asked.length).toBeLessThanOrEqual(1 + Math.floor((performance.now() - began) / 1_000));
});
