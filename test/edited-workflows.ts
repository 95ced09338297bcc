/** The workflows as a later version might have them: bundled from a copy of their sources, some of it edited. */
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger, type WorkflowBundle } from '@temporalio/worker';

const ROOT = fileURLToPath(new URL('../', import.meta.url));

/** Edits are by path from the root, in `workers` or `contracts`. Each must change its file's text. */
export async function bundleEdited(edits: Record<string, (text: string) => string>): Promise<WorkflowBundle> {
  const copy = await mkdtemp(join(tmpdir(), 'trellis-workflows-'));
  try {
    for (const part of ['workers', 'contracts']) await cp(join(ROOT, part), join(copy, part), { recursive: true });
    await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    // Found before the root's, which leads to the unedited contracts.
    await mkdir(join(copy, 'workers/node_modules/@trellis'), { recursive: true });
    await symlink(join(copy, 'contracts'), join(copy, 'workers/node_modules/@trellis/contracts'));
    for (const [path, edit] of Object.entries(edits)) {
      const text = await readFile(join(copy, path), 'utf8');
      const edited = edit(text);
      if (edited === text) throw new Error(`${path} does not contain what is to be edited`);
      await writeFile(join(copy, path), edited);
    }
    return await bundleWorkflowCode({
      workflowsPath: join(copy, 'workers/workflows/index.ts'),
      payloadConverterPath: join(copy, 'workers/payload-converter.ts'),
      logger: new DefaultLogger('ERROR'),
    });
  } finally {
    await rm(copy, { recursive: true });
  }
}

const FROZEN = 'export const POLICIES_UNTIL_0_2';

/** Gives every policy other numbers, with which nothing has time to happen; `frozen`: also the ones of the versions until 0.2. */
export const otherPolicies =
  ({ frozen }: { frozen: boolean }) =>
  (text: string): string => {
    const end = frozen ? text.length : text.indexOf(FROZEN);
    const edited = text
      .slice(0, end)
      .replace(/(_ms|_attempts): \d[^,\n]*,/g, '$1: 1,')
      .replace(/: (true|false),/g, (_, value) => `: ${value !== 'true'},`);
    return edited + text.slice(end);
  };
