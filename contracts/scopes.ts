/** What a caller may be allowed to do. A token lists its scopes in the claim `scope`, separated by spaces. Plain data. */
export const SCOPES = {
  'orders:start': 'Start orders',
  'orders:read': "Read an order's status",
  'orders:read:personal': 'Read an order with its address, items and events',
  'orders:list': 'List orders',
  'orders:change': 'Cancel an order, or change its address',
  'orders:approve': 'Approve orders that another has started; for people',
  'orders:operate': "Erase an order's personal data",
} as const;

export type Scope = keyof typeof SCOPES;
export const SCOPE_NAMES = Object.keys(SCOPES) as Scope[];

/** The value of the claim `shop` that stands for every shop. */
export const EVERY_SHOP = '*';
