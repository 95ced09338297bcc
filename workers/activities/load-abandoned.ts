import { isTerminal, type State } from '@trellis/contracts/lifecycle';
import type { OrderInput } from '@trellis/contracts/order';
import type { Progress } from '@trellis/contracts/status';
import type { Run } from '@trellis/contracts/temporal';
import type { OrderViews } from '@trellis/drizzle/order-views';
import { progressOfRow } from '@trellis/drizzle/orders';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

/** What SQL knows of an order whose run is over although the order isn't. */
export type Abandoned =
  | { open: false; state: State | undefined }
  | { open: true; order: Partial<OrderInput>; run: Run; progress: Progress; priced: boolean };

/** Reads what there is to settle. */
export function createLoadAbandoned({ views, onFailedAttempt }: AttemptDeps & { views: OrderViews }) {
  return async function load_abandoned(input: ActivityInput): Promise<Abandoned> {
    return attempt({ onFailedAttempt }, input, async () => {
      const row = await views.find(input.order_id);
      if (!row || isTerminal(row.state)) return { open: false, state: row?.state };
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
