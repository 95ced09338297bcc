import { fileURLToPath } from 'node:url';
import type { WorkerDeploymentVersion } from '@temporalio/common';
import {
  type ActivityInterceptorsFactory,
  bundleWorkflowCode,
  DefaultLogger,
  type NativeConnection,
  Worker,
  type WorkerDeploymentOptions,
  type WorkflowBundle,
} from '@temporalio/worker';
import { ORDERS_QUEUE, SHIPPING_QUEUE } from '@trellis/contracts/temporal';
import type { Activities } from './activities/index.ts';

export const QUEUES = { orders: ORDERS_QUEUE, shipping: SHIPPING_QUEUE } as const;
export type QueueName = keyof typeof QUEUES;

export interface WorkerDeps {
  connection: NativeConnection;
  namespace: string;
  activities: Activities;
  workflowBundle: WorkflowBundle;
  interceptors?: { activity: ActivityInterceptorsFactory[] };
  /** Which version of which deployment this is; orders go to whatever worker there is when absent. */
  version?: WorkerDeploymentVersion | undefined;
  /** Orders whose workflow is kept in memory between its tasks; with 0 every task replays the order's whole history. */
  maxCachedWorkflows?: number;
}

const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
const PAYLOAD_CONVERTER = pathOf('payload-converter.ts');

/** One bundle serves every worker of a process; making it takes about a second. */
export function bundleWorkflows(): Promise<WorkflowBundle> {
  return bundleWorkflowCode({
    workflowsPath: pathOf('workflows/index.ts'),
    payloadConverterPath: PAYLOAD_CONVERTER,
    logger: new DefaultLogger('WARN'),
  });
}

/**
 * A worker on one queue, polling once its `run` is called. A workflow task stays open while its local activities run,
 * so each kind of slot must outnumber the orders in flight, or orders wait for each other.
 */
export function createWorker(queue: QueueName, { version, ...deps }: WorkerDeps): Promise<Worker> {
  return Worker.create({
    ...deps,
    ...(version && { workerDeploymentOptions: deploymentOf(version) }),
    taskQueue: QUEUES[queue],
    dataConverter: { payloadConverterPath: PAYLOAD_CONVERTER },
    maxConcurrentWorkflowTaskExecutions: 200,
    maxConcurrentLocalActivityExecutions: 1_000,
    maxConcurrentActivityTaskExecutions: 1_000,
    workflowTaskPollerBehavior: POLLERS,
    activityTaskPollerBehavior: POLLERS,
    maxCachedWorkflows: deps.maxCachedWorkflows ?? 5_000,
    // What a killed worker had cached goes to another one after this; orders can't wait the default of ten seconds.
    stickyQueueScheduleToStartTimeout: '1s',
    // Attempts get this long to finish before they are told to stop.
    shutdownGraceTime: '3s',
  });
}

/** An order ends under the code it began with: no version has to replay what another one did. */
const deploymentOf = (version: WorkerDeploymentVersion): WorkerDeploymentOptions => ({
  version,
  useWorkerVersioning: true,
  defaultVersioningBehavior: 'PINNED',
});

const POLLERS = { type: 'autoscaling', minimum: 5, initial: 10, maximum: 100 } as const;
