import { Connection } from '@temporalio/client';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { orderWorkflowId, shippingWorkflowId } from '@trellis/contracts/temporal';

/** What an order costs Temporal: the history of its workflow and of its shipping attempts. */
export interface Cost {
  events: number;
  workflowTasks: number;
}

/** Reads each order's cost from the server's histories. */
export async function costsOf(
  { TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE = 'default' }: { TEMPORAL_ADDRESS: string; TEMPORAL_NAMESPACE?: string },
  orders: { orderId: string; attempts: number }[],
): Promise<Cost[]> {
  const connection = await Connection.connect({ address: TEMPORAL_ADDRESS });
  try {
    const { workflow } = createTemporalClient(connection, TEMPORAL_NAMESPACE);
    const costs: Cost[] = [];
    for (const { orderId, attempts } of orders) {
      const children = Array.from({ length: attempts }, (_, n) => shippingWorkflowId(orderId, n + 1));
      const cost: Cost = { events: 0, workflowTasks: 0 };
      for (const id of [orderWorkflowId(orderId), ...children]) {
        const { events } = await workflow.getHandle(id).fetchHistory();
        cost.events += events?.length ?? 0;
        cost.workflowTasks += (events ?? []).filter((event) => event.workflowTaskCompletedEventAttributes).length;
      }
      costs.push(cost);
    }
    return costs;
  } finally {
    await connection.close();
  }
}

/** The actions that the server has counted so far, of one type or of all; Temporal Cloud bills by them. The count lags behind by some seconds. */
export async function actionsSoFar(metricsUrl: string, type = ''): Promise<number> {
  const text = await (await fetch(metricsUrl)).text();
  return text
    .split('\n')
    .filter((line) => line.startsWith(`action{action_type="${type}`) && !line.includes('temporal_system'))
    .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}
