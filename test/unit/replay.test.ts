/** Orders that began under released code go on under this code: their histories replay, event by event. */
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { bundleWorkflowCode, DefaultLogger, Worker, type WorkflowBundle } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { bundleWorkflows } from '@trellis/workers/worker';
import { describe, expect, onTestFinished, test } from 'vitest';
import { fileOf, PATHS, VERSION } from '../histories/paths.ts';

const HISTORIES = fileURLToPath(new URL('../histories/', import.meta.url));
const WORKFLOWS = fileURLToPath(new URL('../../workers/workflows/', import.meta.url));

const folders = (await readdir(HISTORIES, { withFileTypes: true })).filter((entry) => entry.isDirectory());
const versions = folders.map(({ name }) => name);
const recorded = (await Promise.all(versions.map(filesOf))).flat();
const bundle = await bundleWorkflows();

async function filesOf(version: string): Promise<string[]> {
  const files = await readdir(join(HISTORIES, version));
  return files.filter((name) => name.endsWith('.json')).map((name) => join(version, name));
}

/** Throws what replaying the history against the workflows throws. */
async function replay(file: string, workflowBundle: WorkflowBundle): Promise<void> {
  const history = historyFromJSON(JSON.parse(await readFile(join(HISTORIES, file), 'utf8')));
  await Worker.runReplayHistory({ workflowBundle }, history);
}

test.for(recorded)('%s', (file) => replay(file, bundle));

test('this version’s histories were recorded, and show every path', async () => {
  const files = await filesOf(VERSION);
  expect(files).toEqual(expect.arrayContaining(Object.keys(PATHS).map((path) => join(VERSION, fileOf(path)))));
});

describe('a change to the workflow', () => {
  const STEP = 'await validate(running);';
  const shipped = versions.map((version) => join(version, fileOf('shipped')));

  /** The workflows with another text in the place of a step. */
  async function changedTo(text: string): Promise<WorkflowBundle> {
    // Beside the original, so that its imports resolve.
    const copy = await mkdtemp(join(WORKFLOWS, '../.changed-workflows-'));
    onTestFinished(() => rm(copy, { recursive: true }));
    await cp(WORKFLOWS, copy, { recursive: true });
    const order = await readFile(join(copy, 'order.ts'), 'utf8');
    expect(order).toContain(STEP);
    await writeFile(
      join(copy, 'order.ts'),
      `import { patched } from '@temporalio/workflow';\n${order.replace(STEP, text)}`,
    );
    return bundleWorkflowCode({ workflowsPath: join(copy, 'index.ts'), logger: new DefaultLogger('ERROR') });
  }

  test('that a running order would not survive is caught', async () => {
    const twice = await changedTo(`${STEP}\n${STEP}`);
    for (const file of shipped) await expect(replay(file, twice)).rejects.toThrow(DeterminismViolationError);
  });

  test('behind `patched` leaves running orders as they were', async () => {
    const twice = await changedTo(`${STEP}\nif (patched('validate-twice')) ${STEP}`);
    for (const file of shipped) await replay(file, twice);
  });
});
