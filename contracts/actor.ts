/** Who did something to an order. Plain data, safe to import from workflow code. */

/** `sub`: whom the caller's token was issued for. `shop`: the shop it is for, if any. `via`: the token's issuer, or one of VIA. */
export interface Actor {
  sub: string;
  shop?: string;
  via: string;
}

export const VIA = {
  /** Anybody, through an API that asks for no tokens. */
  open: 'auth-off',
  /** A caller of Temporal other than the API. */
  temporal: 'temporal',
  /** The product itself. */
  worker: 'worker',
} as const;

export const WORKER: Actor = { sub: 'trellis-orders', via: VIA.worker };
export const FOREIGN_CALLER: Actor = { sub: 'unknown', via: VIA.temporal };

/** Of each part of an actor, in UTF-16 units. */
export const MAX_ACTOR_LENGTH = 200;

/** Reads an actor that came through Temporal, where any caller may send any value. */
export function actorIn(given: unknown): Actor {
  const { sub, shop, via } = (typeof given === 'object' && given !== null ? given : {}) as Record<string, unknown>;
  if (!isPart(sub) || !isPart(via)) return FOREIGN_CALLER;
  return { sub, ...(isPart(shop) && { shop }), via };
}

const isPart = (value: unknown): value is string =>
  typeof value === 'string' && value !== '' && value.length <= MAX_ACTOR_LENGTH && value.isWellFormed();

/** Whether two acts are known to be of one caller. */
export const isSameActor = (one: Actor, other: Actor): boolean =>
  one.via !== VIA.open && one.via !== VIA.temporal && one.sub === other.sub && one.via === other.via;

/** Who approved an order, and when: ISO 8601, in Temporal's time. */
export interface Approval {
  by: Actor;
  at: string;
  /** The API's signature (approval-proof.ts), if it has a key for that. */
  proof?: string;
}

/** What people decided about an order, as far as it is known. */
export interface Decisions {
  approval?: Approval | undefined;
  canceled_by?: Actor | undefined;
}
