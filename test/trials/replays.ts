/** Replays the histories of a server's orders and shipments with the current workflow code. */
import { Connection } from '@temporalio/client';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { createEncryption } from '@trellis/contracts/payload-codec';
import { openDatabase } from '@trellis/drizzle/client';
import { createOrderKeyStore } from '@trellis/drizzle/order-keys';
import type { EncryptionVariables } from '@trellis/local/stack/encryption';
import { dataConverterWith } from '@trellis/workers/create-worker';
import { workflowBundle } from '@trellis/workers/workflow-bundle';

export interface Replays {
  replayed: number;
  /** The events of the longest history. */
  longest: number;
  /** The most events of a history without its signals, which Temporal stores whether or not a worker runs. */
  longestWithoutSignals: number;
  /** The workflows that do not replay, a line each. */
  broken: string[];
}

/**
 * Replays all runs of the orders and shipments of a Temporal server, `temporal`, host:port. `database`: the URL of the one that holds the
 * orders' keys. Callable once in a process.
 */
export async function replayAll(from: {
  temporal: string;
  database: string;
  encryption: EncryptionVariables;
}): Promise<Replays> {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  // A page of a history with large signals is larger than the default of 4 MB.
  const limits = { 'grpc.max_receive_message_length': -1 };
  const connection = await Connection.connect({ address: from.temporal, channelArgs: limits });
  const db = openDatabase(from.database);
  const keys = from.encryption.ENCRYPTION_KEYS;
  const config = { ENCRYPT: 'off', ...(keys && { ENCRYPTION_KEYS: keys.split(',') }) } as const;
  const dataConverter = dataConverterWith(createEncryption(config, createOrderKeyStore(db)));
  try {
    const workflows = createTemporalClient(connection).workflow.list({
      query: "WorkflowType IN ('OrderWorkflow', 'ShippingWorkflow')",
    });
    let replayed = 0;
    let longest = 0;
    let longestWithoutSignals = 0;
    async function* histories() {
      for await (const one of workflows.intoHistories()) {
        const { events = [] } = one.history as { events?: { workflowExecutionSignaledEventAttributes?: unknown }[] };
        const others = events.filter((event) => !event.workflowExecutionSignaledEventAttributes);
        longest = Math.max(longest, events.length);
        longestWithoutSignals = Math.max(longestWithoutSignals, others.length);
        yield one;
      }
    }
    const worker = { workflowBundle: await workflowBundle(), dataConverter };
    const results = Worker.runReplayHistories(worker, histories());
    const broken: string[] = [];
    for await (const { workflowId, error } of results) {
      replayed += 1;
      if (error) broken.push(`${workflowId} does not replay: ${error.message}`);
    }
    return { replayed, longest, longestWithoutSignals, broken };
  } finally {
    await Promise.all([connection.close(), db.close()]);
  }
}
