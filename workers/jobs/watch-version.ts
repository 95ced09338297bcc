import { setTimeout } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { WorkerDeploymentVersion } from '@temporalio/common';
import type { Logger } from 'pino';

const INTERVAL_MS = 60_000;
/** The deployment exists once one of its workers has polled. */
const FIRST_POLL_MS = 2_000;

interface WatchOptions {
  client: Client;
  version: WorkerDeploymentVersion;
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
}: WatchOptions): Promise<void> {
  const { deploymentName, buildId } = version;
  const namespace = client.options.namespace;
  const where = `--address ${address} --namespace ${namespace} --deployment-name ${deploymentName}`;
  const command = `temporal worker deployment set-current-version ${where} --build-id ${buildId} --yes`;
  while (!signal.aborted) {
    const described = await client.workflowService
      .describeWorkerDeployment({ namespace, deploymentName })
      .catch(() => undefined);
    if (described?.workerDeploymentInfo?.routingConfig?.currentDeploymentVersion) return;
    if (described) log.warn({ command }, 'no version of this deployment is current: its workers receive no order');
    await setTimeout(described ? INTERVAL_MS : FIRST_POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}
