/** What each program's account may do with each table: what its statements need, and nothing more. No program changes or deletes an event. */

type Rights = Record<string, string>;

const API: Rights = {
  orders: 'SELECT',
  payments: 'SELECT',
  shipments: 'SELECT',
  events: 'SELECT',
  attempts: 'SELECT',
  prices: 'SELECT',
  order_keys: 'SELECT, INSERT',
  capacity: 'SELECT, UPDATE (busy_until)',
  // Of all columns: MariaDB asks for it in an UPDATE that joins on one of them.
  shop_capacity: 'SELECT, INSERT, UPDATE',
};

const WORKER: Rights = {
  orders: 'SELECT, INSERT, UPDATE',
  payments: 'SELECT, INSERT, UPDATE',
  shipments: 'SELECT, INSERT, UPDATE',
  events: 'SELECT, INSERT',
  attempts: 'SELECT, INSERT, DELETE',
  prices: 'SELECT',
  order_keys: 'SELECT, INSERT, DELETE',
  capacity: 'SELECT, UPDATE',
  shop_capacity: 'SELECT',
};

/** Of the worker, which calls the simulated companies. */
const SANDBOX: Rights = {
  sandbox_charges: 'SELECT, INSERT, UPDATE',
  sandbox_parcels: 'SELECT, INSERT, UPDATE',
};

/** Accounts as `user` or `user@host`, the host by default `%`. */
export interface Accounts {
  API_ACCOUNT?: string | undefined;
  WORKER_ACCOUNT?: string | undefined;
}

/** The statements that give the accounts, which must exist, their programs' rights on the product's tables. They take no right away. */
export const productGrants = ({ API_ACCOUNT, WORKER_ACCOUNT }: Accounts): string[] => [
  ...grantsTo(API_ACCOUNT, API),
  ...grantsTo(WORKER_ACCOUNT, WORKER),
];

/** The same for the sandbox's tables. */
export const sandboxGrants = ({ WORKER_ACCOUNT }: Accounts): string[] => grantsTo(WORKER_ACCOUNT, SANDBOX);

/** MariaDB would create an account that does not exist, without a password; MySQL does not know this mode. */
const CREATE_NONE = `SET sql_mode = CONCAT(@@sql_mode, IF(VERSION() LIKE '%MariaDB%', ',NO_AUTO_CREATE_USER', ''))`;

function grantsTo(account: string | undefined, rights: Rights): string[] {
  if (account === undefined) return [];
  const [user, host = '%'] = account.split('@');
  const grants = Object.entries(rights).map(([table, right]) => `GRANT ${right} ON ${table} TO '${user}'@'${host}'`);
  return [CREATE_NONE, ...grants];
}
