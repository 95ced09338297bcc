import type { Actor } from '@trellis/contracts/actor';
import { OrderError } from '@trellis/contracts/error';
import { shopOf, withoutShop } from '@trellis/contracts/id';
import { StartInput, type StartOutput } from '@trellis/contracts/order';
import type { Encryption } from '@trellis/contracts/payload-codec';
import type { PolicyName } from '@trellis/contracts/policy';
import { isRequestHash, requestHash } from '@trellis/contracts/request-hash';
import { orderWorkflowId } from '@trellis/contracts/temporal';
import type { OrderViews } from '@trellis/drizzle/order-views';
import { type TemporalPort, undefinedIfUnavailable } from '../temporal/port.ts';
import type { Admission } from './admission.ts';
import { fallbackOnDatabaseError, invalid } from './errors.ts';
import type { PriceCheck } from './price-check.ts';

interface StartDeps {
  temporal: TemporalPort;
  views: OrderViews;
  admission: Admission;
  checkPrices: PriceCheck;
  policy: PolicyName;
  /** Absent where nothing is encrypted. */
  encryption: Encryption | undefined;
}

/**
 * Starts an order, or returns the run that the same request started before, running or completed. The order's ids are the
 * recorded ones. Throws ORDER_CONFLICT when the id belongs to another request, INVALID when an item has no price, BUSY when the workers could not finish it in
 * time, UNAVAILABLE when Temporal fails.
 */
export async function startOrder(
  { temporal, views, admission, checkPrices, policy, encryption }: StartDeps,
  order: StartInput,
  started_by: Actor,
): Promise<StartOutput> {
  const { order_id } = order;
  const answer = async (found: {
    run_id: string;
    request_hash: string | null;
    workflow_id?: string;
  }): Promise<StartOutput> => {
    if (!(await isRequestHash(found.request_hash, order, encryption?.hashes)))
      throw new OrderError('ORDER_CONFLICT', `order ${withoutShop(order_id)} was started with another body`);
    return { workflow_id: found.workflow_id ?? orderWorkflowId(order_id), run_id: found.run_id };
  };

  // At once, as each is a round trip. SQL also has the orders whose runs Temporal no longer retains. While it is down, Temporal alone decides.
  const [row, problems, decision] = await Promise.all([
    fallbackOnDatabaseError(views.find(order_id), 'down' as const),
    checkPrices(shopOf(order_id), order.items),
    admission.admit(order_id),
  ]);
  const giveBack = async () => {
    if (decision.admitted && decision.counted) await admission.giveBack(order_id);
  };
  if (row !== 'down' && row) {
    await giveBack();
    return answer(row);
  }

  /** The run of the same request. `lost`: a run was ended from outside before it wrote the order's row, so there is no order. */
  const findStarted = async () => {
    const run = await temporal.find(order_id);
    if (run?.dead && row === undefined) return 'lost';
    if (!run?.request_hash) return undefined;
    return answer({ run_id: run.run_id, request_hash: run.request_hash });
  };
  if (problems.length > 0) {
    await giveBack();
    // It may have been started under another price list.
    const running = await findStarted();
    if (running && running !== 'lost') return running;
    throw invalid(problems);
  }
  if (!decision.admitted) {
    // An order that was started before is answered, not refused. While Temporal fails it is refused like any other.
    const running = await undefinedIfUnavailable(findStarted());
    if (running && running !== 'lost') return running;
    const { retryAfter: retry_after } = decision;
    throw new OrderError('BUSY', `the workers are at capacity; try again in ${retry_after} s`, {
      retry_after,
    });
  }
  const input = { ...order, ...(policy !== 'exercise' && { policy }), started_by };
  const hash = await requestHash(order, StartInput, encryption?.hash);
  // An order is not started in clear because its key can't be stored.
  await encryption?.prepare(order_id);
  const started = await temporal.start(input, hash);
  if (started) return { workflow_id: orderWorkflowId(order_id), run_id: started.run_id };

  const before = await findStarted();
  // If a frozen worker still writes the row for the lost run, the row stays that run's, and the order is settled.
  const again = before === 'lost' ? await temporal.start(input, hash, true) : undefined;
  if (again) return { workflow_id: orderWorkflowId(order_id), run_id: again.run_id };

  await giveBack();
  if (before && before !== 'lost') return before;
  throw new OrderError(
    'UNAVAILABLE',
    `order ${withoutShop(order_id)} was started by another caller and is not in SQL yet`,
    {
      retry_after: 1,
    },
  );
}
