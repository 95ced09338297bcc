/** The workflow code as a worker loads it: bundled from the sources at its start. In a built worker, workflow-bundle.built.ts stands for this file. */
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger, type WorkflowBundleWithSourceMap } from '@temporalio/worker';

const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

const WORKFLOWS = pathOf('workflows/index.ts');
export const PAYLOAD_CONVERTER = pathOf('payload-converter.ts');
/** From the outermost. */
export const INTERCEPTORS = ['workflows/ended-tasks.ts', 'workflows/signal-floods.ts', 'workflows/local-results.ts'];

/**
 * Frames of a stack trace in workflow code: the place where an error was thrown. The SDK takes a trace of each promise, for its query
 * `__stack_trace`, and looks each frame up in the source map: with V8's default of 10 frames that is a fifth of the CPU of a replay.
 */
const STACK_TRACE_LIMIT = 1;

/** Bundles the workflow code, in about a second. One bundle serves all workers of a process. */
export async function workflowBundle(): Promise<WorkflowBundleWithSourceMap> {
  const interceptors = INTERCEPTORS.map(pathOf);
  const bundle = await bundleWorkflowCode({
    workflowsPath: WORKFLOWS,
    workflowInterceptorModules: interceptors,
    payloadConverterPath: PAYLOAD_CONVERTER,
    // Else each workflow evaluates all modules for itself, and keeps them. None may hold what belongs to one workflow.
    preloadModules: [WORKFLOWS, PAYLOAD_CONVERTER, ...interceptors],
    // A source map of files and lines, without columns and texts, is a tenth as large. Each worker and its thread keep copies of it.
    webpackConfigHook: (config) => ({ ...config, devtool: 'inline-nosources-cheap-module-source-map' }),
    logger: new DefaultLogger('WARN'),
  });
  // Set before the SDK freezes the global objects; on the first line, which the source map gives no place.
  return { ...bundle, code: `Error.stackTraceLimit = ${STACK_TRACE_LIMIT}; ${bundle.code}` };
}
