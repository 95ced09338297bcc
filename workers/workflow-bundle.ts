/** The workflow code as a worker loads it: bundled from the sources at its start. In a built worker, workflow-bundle.built.ts stands for this file. */
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger, type WorkflowBundleWithSourceMap } from '@temporalio/worker';

const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

export const PAYLOAD_CONVERTER = pathOf('payload-converter.ts');
/** From the outermost. */
export const INTERCEPTORS = ['workflows/signal-floods.ts', 'workflows/local-results.ts'];

/** Bundles the workflow code, in about a second. One bundle serves all workers of a process. */
export function workflowBundle(): Promise<WorkflowBundleWithSourceMap> {
  return bundleWorkflowCode({
    workflowsPath: pathOf('workflows/index.ts'),
    workflowInterceptorModules: INTERCEPTORS.map(pathOf),
    payloadConverterPath: PAYLOAD_CONVERTER,
    logger: new DefaultLogger('WARN'),
  });
}
