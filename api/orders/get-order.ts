import type { GetInput, OrderView } from '@trellis/contracts/order';
import type { OrderViews } from '@trellis/drizzle/order-views';
import type { TemporalPort } from '../temporal/port.ts';
import { fromSql, noSuchOrder } from './errors.ts';

/**
 * The order as SQL has it. One that Temporal has accepted and no worker has recorded yet is `received`, and the rest of it is
 * not known. Throws NOT_FOUND when neither has it, UNAVAILABLE or BUSY when one of them fails.
 */
export async function getOrder(
  { temporal, views }: { temporal: TemporalPort; views: OrderViews },
  { order_id, events_after }: GetInput,
): Promise<OrderView> {
  const recorded = await fromSql(() => views.view(order_id, events_after));
  if (recorded) return recorded;
  const run = await temporal.find(order_id);
  if (!run || run.dead) throw noSuchOrder(order_id);
  const unknown = { payment_id: null, amount: null, currency: null, reason: null };
  const personal = { erased_at: null, address: null, items: null };
  const times = { created_at: run.started_at, updated_at: run.started_at };
  const nothing = { payments: [], shipments: [], events: [], events_next_cursor: null };
  return { order_id, state: 'received', ...unknown, ...personal, ...times, ...nothing };
}
