import { OrderError } from '@trellis/contracts/error';
import type { StartInput, StartOutput } from '@trellis/contracts/order';
import type { PolicyName } from '@trellis/contracts/policy';
import { requestHash } from '@trellis/contracts/request-hash';
import { orderWorkflowId } from '@trellis/contracts/temporal';
import type { OrderViews } from '@trellis/drizzle/order-views';
import type { TemporalPort } from '../temporal/port.ts';
import type { Admission } from './admission.ts';

interface StartDeps {
  temporal: TemporalPort;
  views: OrderViews;
  admission: Admission;
  policy: PolicyName;
}

/**
 * Starts an order, or finds the run that the same request started before, open or closed.
 * Throws ORDER_CONFLICT when the id belongs to another request, BUSY when the workers couldn't finish it in time.
 */
export async function startOrder(
  { temporal, views, admission, policy }: StartDeps,
  order: StartInput,
): Promise<StartOutput> {
  const { order_id } = order;
  const hash = await requestHash(order);
  const answer = (found: { run_id: string; request_hash: string | null; workflow_id?: string }): StartOutput => {
    if (found.request_hash !== hash)
      throw new OrderError('ORDER_CONFLICT', `order ${order_id} was started with another body`);
    return { workflow_id: found.workflow_id ?? orderWorkflowId(order_id), run_id: found.run_id };
  };

  // SQL remembers orders that Temporal has let go. Without it, Temporal alone decides.
  const row = await views.find(order_id).catch(() => undefined);
  if (row) return answer(row);

  const known = async () => {
    const run = await temporal.find(order_id);
    return run?.request_hash ? answer({ run_id: run.run_id, request_hash: run.request_hash }) : undefined;
  };
  const decision = await admission.admit(order_id);
  if (!decision.admitted) {
    // One that runs is only being asked for again; if nobody can say, it is turned away like any other.
    const running = await known().catch((error: unknown) => {
      if (error instanceof OrderError && error.code === 'ORDER_CONFLICT') throw error;
    });
    if (running) return running;
    const { retryAfter: retry_after } = decision;
    throw new OrderError('BUSY', `the workers have all they can finish in time; try again in ${retry_after} s`, {
      retry_after,
    });
  }
  const started = await temporal.start(policy === 'exercise' ? order : { ...order, policy }, hash);
  if (started) return { workflow_id: orderWorkflowId(order_id), run_id: started.run_id };

  if (decision.counted) await admission.giveBack();
  const running = await known();
  if (running) return running;
  throw new OrderError('UNAVAILABLE', `order ${order_id} was started by another caller and is not recorded yet`);
}
