import type { WorkerDeploymentVersion } from '@temporalio/common';
import {
  type ActivityInterceptorsFactory,
  type NativeConnection,
  Worker,
  type WorkerDeploymentOptions,
  type WorkflowBundleOption,
} from '@temporalio/worker';
import type { Encryption } from '@trellis/contracts/payload-codec';
import { ORDERS_QUEUE, SHIPPING_QUEUE } from '@trellis/contracts/temporal';
import { PAYLOAD_CONVERTER } from '#workflow-bundle';
import type { Activities } from './activities/index.ts';

export const QUEUES = { orders: ORDERS_QUEUE, shipping: SHIPPING_QUEUE } as const;
export type QueueName = keyof typeof QUEUES;

export interface WorkerDeps {
  connection: NativeConnection;
  namespace: string;
  activities: Activities;
  workflowBundle: WorkflowBundleOption;
  encryption?: Encryption | undefined;
  interceptors?: { activity: ActivityInterceptorsFactory[] };
  /** This worker's version and deployment. When absent, the worker is unversioned. */
  version?: WorkerDeploymentVersion | undefined;
  /** How many workflows are kept in memory between their tasks; with 0 every task replays the whole history. */
  maxCachedWorkflows?: number;
}

/**
 * A worker on one task queue; it polls once its `run` is called. A workflow task stays open while its local activities run, so
 * there must be more slots of each kind than orders in flight, or orders wait for each other.
 */
export function createWorker(queue: QueueName, { version, encryption, ...deps }: WorkerDeps): Promise<Worker> {
  return Worker.create({
    ...deps,
    ...(version && { workerDeploymentOptions: deploymentOf(version) }),
    taskQueue: QUEUES[queue],
    dataConverter: dataConverterWith(encryption),
    maxConcurrentWorkflowTaskExecutions: 200,
    maxConcurrentLocalActivityExecutions: 1_000,
    maxConcurrentActivityTaskExecutions: 1_000,
    workflowTaskPollerBehavior: POLLERS,
    activityTaskPollerBehavior: POLLERS,
    // An update may have more than the 2 MB of other calls, and the answer to it repeats it. Without this the worker would fail that task
    // for ever; with it the server ends the run, and the order is settled.
    disablePayloadErrorLimit: true,
    maxCachedWorkflows: deps.maxCachedWorkflows ?? 5_000,
    ...UNEXPOSED,
    // After this time the workflows cached by a killed worker are given to another one. The default of 10 s is too long for an order's budget.
    stickyQueueScheduleToStartTimeout: '1s',
    // Running activities get this long to finish before they are canceled.
    shutdownGraceTime: '3s',
  });
}

/** How a worker reads and writes payloads. */
export const dataConverterWith = (encryption: Encryption | undefined) => ({
  payloadConverterPath: PAYLOAD_CONVERTER,
  ...(encryption && { payloadCodecs: [encryption] }),
});

/** PINNED: a workflow ends under the version it began with, so no version has to replay another one's histories. */
const deploymentOf = (version: WorkerDeploymentVersion): WorkerDeploymentOptions => ({
  version,
  useWorkerVersioning: true,
  defaultVersioningBehavior: 'PINNED',
});

/**
 * An option of the SDK that its types don't expose. A workflow that is cut off in the middle of an activation ends the whole worker,
 * and on a busy machine thousands of signals in one activation may take longer than the default of 5 s.
 */
const UNEXPOSED = { isolateExecutionTimeout: '30s' };

const POLLERS = { type: 'autoscaling', minimum: 5, initial: 10, maximum: 100 } as const;
