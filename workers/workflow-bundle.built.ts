/** The workflow code as a built worker loads it: from the files beside it. */
import { fileURLToPath } from 'node:url';
import type { WorkflowBundlePath } from '@temporalio/worker';

const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

export const PAYLOAD_CONVERTER = pathOf('payload-converter.js');

export const workflowBundle = async (): Promise<WorkflowBundlePath> => ({ codePath: pathOf('workflows.js') });
