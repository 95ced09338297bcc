import type { OrderInput } from '@trellis/contracts/order';
import type { Progress } from '@trellis/contracts/order-status';
import { isTerminal, type State } from '@trellis/contracts/states-and-steps';
import type { Run } from '@trellis/contracts/temporal';
import type { OpenOrders } from '@trellis/drizzle/open-orders';
import { type ActivityInput, type AttemptDeps, attempt } from './attempt.ts';

/** An order's row, when the order's run has ended but the order has not. `open` is false when there is nothing to settle, as while its run goes on. */
export type Abandoned =
  | { open: false; state: State | undefined }
  | { open: true; order: Partial<OrderInput>; run: Run; progress: Progress; priced: boolean };

/** Reads the order that SettleWorkflow is to settle. */
export function createLoadAbandoned(
  deps: AttemptDeps & { openOrders: OpenOrders; goesOn: (run: Run) => Promise<boolean> },
) {
  const { openOrders, goesOn } = deps;
  return async function load_abandoned(input: ActivityInput): Promise<Abandoned> {
    return attempt(deps, input, async () => {
      const found = await openOrders.unfinished(input.order_id);
      if (!found || isTerminal(found.state)) return { open: false, state: found?.state };
      const { payment_id, amount, run, progress } = found;
      // Any caller of Temporal can start the workflow, for any order.
      if (await goesOn(run)) return { open: false, state: found.state };
      return {
        open: true,
        order: { order_id: input.order_id, ...(payment_id === null ? {} : { payment_id }) },
        run,
        progress,
        // An order without a price was never charged.
        priced: amount !== null,
      };
    });
  };
}
