import { OrderError } from '@trellis/contracts/error';
import type { StartInput, StartOutput } from '@trellis/contracts/order';
import type { PolicyName } from '@trellis/contracts/policy';
import { requestHash } from '@trellis/contracts/request-hash';
import { orderWorkflowId } from '@trellis/contracts/temporal';
import type { OrderViews } from '@trellis/drizzle/order-views';
import type { Admitting } from './admission.ts';
import type { TemporalPort } from './temporal.ts';

interface Starting {
  temporal: TemporalPort;
  views: OrderViews;
  admission: Admitting;
  policy: PolicyName;
}

/**
 * Starts an order, or finds the run that the same request started before, open or closed.
 * Throws ORDER_CONFLICT when the id belongs to another request, BUSY when the workers couldn't finish it in time.
 */
export async function startOrder(
  { temporal, views, admission, policy }: Starting,
  order: StartInput,
): Promise<StartOutput> {
  const { order_id } = order;
  const hash = await requestHash(order);
  const answer = (known: { run_id: string; request_hash: string | null; workflow_id?: string }): StartOutput => {
    if (known.request_hash !== hash)
      throw new OrderError('ORDER_CONFLICT', `order ${order_id} was started with another body`);
    return { workflow_id: known.workflow_id ?? orderWorkflowId(order_id), run_id: known.run_id };
  };

  // SQL remembers orders that Temporal has let go. Without it, Temporal alone decides.
  const row = await views.find(order_id).catch(() => undefined);
  if (row) return answer({ run_id: row.runId, request_hash: row.requestHash, workflow_id: row.workflowId });

  const decision = await admission.admit(order_id);
  if (!decision.admitted) {
    const { retryAfter: retry_after } = decision;
    throw new OrderError('BUSY', `the workers have all they can finish in time; try again in ${retry_after} s`, {
      retry_after,
    });
  }
  const started = await temporal.start(policy === 'exercise' ? order : { ...order, policy }, hash);
  if (started) return { workflow_id: orderWorkflowId(order_id), run_id: started.run_id };

  await admission.giveBack();
  const known = await temporal.find(order_id);
  if (known?.request_hash) return answer({ run_id: known.run_id, request_hash: known.request_hash });
  throw new OrderError('UNAVAILABLE', `order ${order_id} was started by another caller and is not recorded yet`);
}
