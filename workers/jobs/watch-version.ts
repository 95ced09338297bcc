import { setTimeout } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { WorkerDeploymentVersion } from '@temporalio/common';
import type { Logger } from 'pino';

const INTERVAL_MS = 60_000;
/** The deployment exists once one of its workers has polled. */
const FIRST_POLL_MS = 2_000;

interface WatchOptions {
  client: Client;
  address: string;
  log: Logger;
  /** Stops the watch when it aborts. */
  signal: AbortSignal;
}

/** Until the deployment has a current version, warns every minute that its workers receive no orders, with the command that makes this version current. */
export async function warnWithoutCurrentVersion({
  client,
  version,
  address,
  log,
  signal,
}: WatchOptions & { version: WorkerDeploymentVersion }): Promise<void> {
  const { deploymentName, buildId } = version;
  const namespace = client.options.namespace;
  const command = commandFor(`--build-id ${buildId}`, { address, namespace, deploymentName });
  while (!signal.aborted) {
    const described = await client.workflowService
      .describeWorkerDeployment({ namespace, deploymentName })
      .catch(() => undefined);
    if (described?.workerDeploymentInfo?.routingConfig?.currentDeploymentVersion) return;
    if (described) log.warn({ command }, 'no version of this deployment is current: its workers receive no order');
    await setTimeout(described ? INTERVAL_MS : FIRST_POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}

/**
 * For a worker without a build id: while a version is current for one of its queues, warns every minute that it receives no new orders,
 * with the command that makes the unversioned workers current.
 */
export async function warnOfCurrentVersion({
  client,
  taskQueues,
  address,
  log,
  signal,
}: WatchOptions & { taskQueues: string[] }): Promise<void> {
  const namespace = client.options.namespace;
  const currentFor = async (name: string) => {
    const described = await client.workflowService
      .describeTaskQueue({ namespace, taskQueue: { name } })
      .catch(() => undefined);
    return described?.versioningInfo?.currentDeploymentVersion;
  };
  while (!signal.aborted) {
    const current = await Promise.all(taskQueues.map(currentFor));
    const { deploymentName, buildId } = current.find((version) => version?.deploymentName) ?? {};
    if (deploymentName) {
      const command = commandFor('--unversioned', { address, namespace, deploymentName });
      log.warn(
        { command, current_build_id: buildId },
        'a version is current: workers without a build id receive no new order',
      );
    }
    await setTimeout(INTERVAL_MS, undefined, { signal }).catch(() => undefined);
  }
}

function commandFor(target: string, of: { address: string; namespace: string; deploymentName: string }): string {
  const where = `--address ${of.address} --namespace ${of.namespace} --deployment-name ${of.deploymentName}`;
  return `temporal worker deployment set-current-version ${where} ${target} --yes`;
}
