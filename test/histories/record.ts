/** `npm run record`: takes an order down every path on the dev server and writes the histories to this version's folder. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { type Client, isGrpcServiceError } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { orderWorkflowId, settleWorkflowId, shippingWorkflowId } from '@trellis/contracts/temporal';
import { expect, test } from 'vitest';
import { ownTestbed } from '../workflow-fixture.ts';
import { fileOf, PATHS, VERSION } from './paths.ts';

const folder = fileURLToPath(new URL(`${VERSION}/`, import.meta.url));
const recorded = existsSync(folder);
const NOT_FOUND = 5;
/** A sticky task queue is named after the worker's process and machine. */
const STICKY_QUEUE = /^\d+@/;

test('this version has no histories yet', () => {
  expect(recorded, `${VERSION} has its histories already: raise the version in package.json`).toBe(false);
});

test.skipIf(recorded).for(Object.entries(PATHS))('%s', { timeout: 60_000 }, async ([path, walk]) => {
  const bed = await ownTestbed({ queues: [], clock: 'real' });
  const { id, row, runs } = await walk(bed);
  const attempts = (await row()).child_attempts;
  const parts: [part: string, workflowId: string, runId?: string][] = [
    ...(await runs()).map(({ runId }, n): [string, string, string] => [
      n === 0 ? '' : `run-${n + 1}`,
      orderWorkflowId(id),
      runId,
    ]),
    ['settle', settleWorkflowId(id)],
    ['first-ship', shippingWorkflowId(id, 1)],
  ];
  if (attempts > 1) parts.push(['last-ship', shippingWorkflowId(id, attempts)]);
  await mkdir(folder, { recursive: true });
  for (const [part, workflowId, runId] of parts) {
    const json = await historyOf(bed.realTimeClient, workflowId, runId);
    if (json) await writeFile(folder + fileOf(path, part), json);
  }
});

test.skipIf(recorded)('the commit they were recorded at', async () => {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  await writeFile(`${folder}code.txt`, `${VERSION}, recorded at commit ${commit}\n`);
});

/** The workflow's history as JSON, without the names of machines and folders, which replay doesn't need. Undefined when it never ran. */
async function historyOf({ workflow }: Client, workflowId: string, runId?: string) {
  try {
    return JSON.stringify(
      JSON.parse(historyToJSON(await workflow.getHandle(workflowId, runId).fetchHistory()), (key, value) => {
        if (key === 'identity' || key === 'stackTrace') return undefined;
        return key === 'name' && STICKY_QUEUE.test(value) ? 'sticky' : value;
      }),
    );
  } catch (error) {
    if (isGrpcServiceError(error) && error.code === NOT_FOUND) return undefined;
    throw error;
  }
}
