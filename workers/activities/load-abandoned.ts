import { isClosed, type State } from '@trellis/contracts/lifecycle';
import type { OrderInput } from '@trellis/contracts/order';
import type { OrderViews } from '@trellis/drizzle/order-views';
import { type Progress, progressOfRow, type Run } from '@trellis/drizzle/orders';
import { type Attempting, attempt, type Work } from './attempt.ts';

/** What SQL knows of an order whose run is over although the order isn't. */
export type Abandoned =
  | { open: false; state: State | undefined }
  | { open: true; order: Partial<OrderInput>; run: Run; progress: Progress; priced: boolean };

/** Reads what there is to settle. */
export function createLoadAbandoned({ views, onFailedAttempt }: Attempting & { views: OrderViews }) {
  return async function load_abandoned(input: Work): Promise<Abandoned> {
    return attempt({ onFailedAttempt }, input, async () => {
      const row = await views.find(input.order_id);
      if (!row || isClosed(row.state)) return { open: false, state: row?.state };
      return {
        open: true,
        order: { order_id: row.id, ...(row.paymentId === null ? {} : { payment_id: row.paymentId }) },
        run: { workflow_id: row.workflowId, run_id: row.runId },
        progress: progressOfRow(row),
        // Nothing is charged before it has a price.
        priced: row.amount !== null,
      };
    });
  };
}
