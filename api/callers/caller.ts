/** A caller of the API: who it is, what it may do, and which orders are its own. */
import { type Actor, VIA } from '@trellis/contracts/actor';
import { OrderError } from '@trellis/contracts/error';
import { recordedId, shopOf, withoutShop } from '@trellis/contracts/id';
import { ID_RULE, type OrderSummary, type OrderView } from '@trellis/contracts/order';
import { EVERY_SHOP, SCOPE_NAMES, type Scope } from '@trellis/contracts/scopes';
import { invalid, noSuchOrder } from '../orders/errors.ts';

export interface Caller {
  actor: Actor;
  scopes: readonly string[];
  /** Its shop: empty where there are no shops, EVERY_SHOP for who serves all of them. */
  shop: string;
  /** The only order that it may act on; any of its shop when absent. */
  order?: string;
  /** Whether its token says how a person logged in. */
  isPerson: boolean;
}

/** Every caller of an API that asks for no tokens. */
export const ANYBODY: Caller = {
  actor: { sub: 'anybody', via: VIA.open },
  scopes: SCOPE_NAMES,
  shop: '',
  isPerson: true,
};

/** Throws FORBIDDEN when the caller may not call procedures of this scope. */
export function authorize({ scopes, isPerson, order }: Caller, scope: Scope): void {
  if (!scopes.includes(scope)) throw new OrderError('FORBIDDEN', `the token lacks the scope ${scope}`);
  if (scope === 'orders:approve' && !isPerson)
    throw new OrderError('FORBIDDEN', "approving is for people: the token's claim amr does not say how one logged in");
  if (scope === 'orders:list' && order !== undefined)
    throw new OrderError('FORBIDDEN', 'the token is for one order only');
}

/**
 * Throws FORBIDDEN unless the caller is staff: who may read the personal data of all orders, of every shop or where there are no shops.
 * Returns a function that tells by a recorded id whether the caller may read that order: one without a shop reads no shop's orders.
 */
export function authorizeStaff(caller: Caller): (recordedId: string) => boolean {
  authorize(caller, 'orders:read:personal');
  const { shop, order } = caller;
  if (order !== undefined) throw new OrderError('FORBIDDEN', 'the token is for one order only');
  if (shop !== '' && shop !== EVERY_SHOP) throw new OrderError('FORBIDDEN', 'the token is for one shop only');
  return (id) => shop === EVERY_SHOP || shopOf(id) === '';
}

/** The recorded id of an order that the caller names. Throws NOT_FOUND when its token is for another one. */
export function recordedOrder({ shop, order }: Caller, id: string): string {
  // Only who serves every shop may name one.
  if (shop !== EVERY_SHOP && id !== withoutShop(id)) throw invalid([{ path: 'order_id', message: ID_RULE }]);
  if (order !== undefined && order !== id) throw noSuchOrder(id);
  return shop === EVERY_SHOP ? id : recordedId(shop, id);
}

/** The shop whose orders and payments the caller starts: those of who serves every shop are of none. */
export const startsIn = ({ shop }: Caller): string => (shop === EVERY_SHOP ? '' : shop);

/** The shop whose orders the caller lists; undefined for all. */
export const listsOf = ({ shop }: Caller): string | undefined => (shop === EVERY_SHOP ? undefined : shop);

type Named = Pick<OrderSummary, 'order_id'> & { payment_id?: string | null };

/** An order with its ids as the caller names them. */
export function asNamedBy<O extends Named>({ shop }: Caller, order: O): O {
  if (shop === '' || shop === EVERY_SHOP) return order;
  const { order_id, payment_id } = order;
  return { ...order, order_id: withoutShop(order_id), ...(payment_id && { payment_id: withoutShop(payment_id) }) };
}

/** As `asNamedBy`, with its payments and events. */
export function viewFor(caller: Caller, view: OrderView): OrderView {
  const { shop } = caller;
  if (shop === '' || shop === EVERY_SHOP) return view;
  return {
    ...asNamedBy(caller, view),
    payments: view.payments.map((payment) => ({ ...payment, payment_id: withoutShop(payment.payment_id) })),
    events: view.events.map(({ payload, ...event }) => ({
      ...event,
      payload: payload?.payment_id ? { ...payload, payment_id: withoutShop(payload.payment_id) } : payload,
    })),
  };
}
