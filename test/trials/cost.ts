import { Connection } from '@temporalio/client';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { orderWorkflowId, shippingWorkflowId } from '@trellis/contracts/temporal';

/** What an order cost Temporal: the history of its workflow and of its tries to ship. */
export interface Cost {
  events: number;
  workflowTasks: number;
}

/** Reads each order's cost from the server's histories. */
export async function costsOf(address: string, orders: { orderId: string; tries: number }[]): Promise<Cost[]> {
  const connection = await Connection.connect({ address });
  try {
    const { workflow } = createTemporalClient(connection);
    const costs: Cost[] = [];
    for (const { orderId, tries } of orders) {
      const children = Array.from({ length: tries }, (_, n) => shippingWorkflowId(orderId, n + 1));
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

/** The server's own count of what Temporal Cloud would bill, so far, of one type or of all. It is written now and then, not at once. */
export async function actionsSoFar(metricsUrl: string, type = ''): Promise<number> {
  const text = await (await fetch(metricsUrl)).text();
  return text
    .split('\n')
    .filter((line) => line.startsWith(`action{action_type="${type}`) && !line.includes('temporal_system'))
    .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}
