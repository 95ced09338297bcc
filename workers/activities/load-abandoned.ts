import { isTerminal, type State } from '@trellis/contracts/lifecycle';
import type { OrderInput } from '@trellis/contracts/order';
import type { Progress } from '@trellis/contracts/status';
import type { Run } from '@trellis/contracts/temporal';
import type { OrderViews } from '@trellis/drizzle/order-views';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

/** What SQL knows of an order whose run is over although the order isn't. */
export type Abandoned =
  | { open: false; state: State | undefined }
  | { open: true; order: Partial<OrderInput>; run: Run; progress: Progress; priced: boolean };

/** Reads what there is to settle. */
export function createLoadAbandoned({ views, onFailedAttempt }: AttemptDeps & { views: OrderViews }) {
  return async function load_abandoned(input: ActivityInput): Promise<Abandoned> {
    return attempt({ onFailedAttempt }, input, async () => {
      const found = await views.unfinished(input.order_id);
      if (!found || isTerminal(found.state)) return { open: false, state: found?.state };
      const { payment_id, amount, run, progress } = found;
      return {
        open: true,
        order: { order_id: input.order_id, ...(payment_id === null ? {} : { payment_id }) },
        run,
        progress,
        // Nothing is charged before it has a price.
        priced: amount !== null,
      };
    });
  };
}
