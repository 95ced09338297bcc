/** Bundles the workflows as a later version might have them: from a copy of their sources with edits. */
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger, type WorkflowBundle } from '@temporalio/worker';
import { INTERCEPTORS } from '@trellis/workers/workflow-bundle';

const ROOT = fileURLToPath(new URL('../', import.meta.url));

/** `edits`: by the file's path from the root, in `workers` or `contracts`. Throws when an edit does not change the text. */
export async function bundleEdited(edits: Record<string, (text: string) => string>): Promise<WorkflowBundle> {
  const copy = await mkdtemp(join(tmpdir(), 'trellis-workflows-'));
  try {
    for (const part of ['workers', 'contracts']) await cp(join(ROOT, part), join(copy, part), { recursive: true });
    await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    // Node resolves this before the root's link, which leads to the unedited contracts.
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
      workflowInterceptorModules: INTERCEPTORS.map((file) => join(copy, 'workers', file)),
      payloadConverterPath: join(copy, 'workers/payload-converter.ts'),
      logger: new DefaultLogger('ERROR'),
    });
  } finally {
    await rm(copy, { recursive: true });
  }
}

const FROZEN = 'export const POLICIES_UNTIL_0_2';

/** Replaces the numbers of every policy with ones that leave no time for anything; `frozen`: those of POLICIES_UNTIL_0_2 too. */
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
