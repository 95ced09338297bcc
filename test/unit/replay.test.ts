/** Orders that began under released code continue under this code: their histories replay, event by event. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { Worker, type WorkflowBundle } from '@temporalio/worker';
import { workflowBundle } from '@trellis/workers/workflow-bundle';
import { describe, expect, test } from 'vitest';
import { bundleEdited, otherPolicies } from '../edited-workflows.ts';
import { fileOf, PATHS, VERSION } from '../histories/paths.ts';

const HISTORIES = fileURLToPath(new URL('../histories/', import.meta.url));
/** Their histories don't record the policy's numbers. */
const WITHOUT_POLICY = ['0.1.0', '0.2.0'];

const folders = (await readdir(HISTORIES, { withFileTypes: true })).filter((entry) => entry.isDirectory());
const versions = folders.map(({ name }) => name);
const recorded = (await Promise.all(versions.map(filesOf))).flat();

async function filesOf(version: string): Promise<string[]> {
  const files = await readdir(join(HISTORIES, version));
  return files.filter((name) => name.endsWith('.json')).map((name) => join(version, name));
}

/** Replays the histories against the workflows. Returns each file's error, undefined when it replays. */
async function replay(files: string[], workflowBundle: WorkflowBundle): Promise<Map<string, Error | undefined>> {
  const histories = await Promise.all(
    files.map(async (file) => ({
      workflowId: file,
      history: historyFromJSON(JSON.parse(await readFile(join(HISTORIES, file), 'utf8'))),
    })),
  );
  const results = new Map<string, Error | undefined>();
  for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle }, histories))
    results.set(workflowId, error);
  return results;
}

const all = (files: string[], expected: unknown) => new Map(files.map((file) => [file, expected]));

const replayed = await replay(recorded, await workflowBundle());

test.for(recorded)('%s', (file) => {
  expect(replayed.has(file)).toBe(true);
  expect(replayed.get(file)).toBeUndefined();
});

test('this version’s histories were recorded, and cover every path', async () => {
  const instruction = `version ${VERSION} has no histories: run \`npm run record\` and commit test/histories/${VERSION}`;
  expect(versions, instruction).toContain(VERSION);
  const files = await filesOf(VERSION);
  expect(files).toEqual(expect.arrayContaining(Object.keys(PATHS).map((path) => join(VERSION, fileOf(path)))));
});

describe('a change to the workflow', () => {
  /** Repeating this step breaks the replay of every history, because it starts a child workflow. */
  const STEP = 'await ship(order);';
  const shipped = versions.map((version) => join(version, fileOf('shipped')));

  /** The workflows with another text in place of the step. The import is aliased to a name that order.ts doesn't use. */
  const changedTo = (text: string): Promise<WorkflowBundle> =>
    bundleEdited({
      'workers/workflows/order.ts': (order) =>
        `import { patched as patchedInTest } from '@temporalio/workflow';\n${order.replace(STEP, text)}`,
    });

  test('that breaks running orders is caught', async () => {
    const twice = await changedTo(`${STEP}\n${STEP}`);
    expect(await replay(shipped, twice)).toEqual(all(shipped, expect.any(Error)));
  });

  test('behind `patched` does not affect running orders', async () => {
    const twice = await changedTo(`${STEP}\nif (patchedInTest('ship-twice')) ${STEP}`);
    expect(await replay(shipped, twice)).toEqual(all(shipped, undefined));
  });
});

test('running orders keep the numbers of their policy when the policies in the code change', async () => {
  const withoutPolicy = recorded.filter((file) => WITHOUT_POLICY.some((version) => file.startsWith(version)));
  const withPolicy = recorded.filter((file) => !withoutPolicy.includes(file));
  for (const [files, frozen] of [
    [withoutPolicy, false],
    [withPolicy, true],
  ] as const) {
    const edited = await bundleEdited({ 'contracts/policy.ts': otherPolicies({ frozen }) });
    expect(await replay(files, edited)).toEqual(all(files, undefined));
  }
});
