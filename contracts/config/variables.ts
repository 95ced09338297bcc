/** Configuration: an entry point reads its environment once, through a schema. */
import * as v from 'valibot';
import {
  AnyTemporalUrl,
  ApiVariables,
  AUTH,
  EDGE,
  ENCRYPTION,
  HTTP_IS_PRIVATE,
  hasKeys,
  httpsUnless,
  isPrivate,
  knowsWho,
  LOOPBACK,
  list,
  NO_KEYS,
  PublicKey,
  text,
  UNKNOWN_CALLERS,
  url,
} from './api-variables.ts';

export { type AuthConfig, ConfigError, LOOPBACK, readConfig } from './api-variables.ts';

const Port = v.pipe(v.string(), v.regex(/^\d{1,5}$/, 'must be a port number'), v.transform(Number), v.maxValue(65_535));

/** The URL's scheme selects the driver: MySQL's own protocol, or PlanetScale's over HTTP. */
const MySqlUrl = url(/^mysql:\/\//, 'must start with mysql://');
const DatabaseUrl = url(/^(mysql|https?):\/\//, 'must start with mysql://, https:// or http://');

/** Quoted in statements as it is. */
const DatabaseAccount = text(
  /^[\w.-]{1,80}(@[\w.:%-]{1,255})?$/,
  'must be an account of the database, user or user@host',
);

/** host:port is Temporal's gRPC API, a URL its HTTP API. Logs print both, so that neither may hold a password. */
const TemporalAddress = text(/^[^/@\s]+:\d+$/, 'must be host:port');

const Queues = v.pipe(
  v.string(),
  v.transform((list) => list.split(',')),
  v.array(v.picklist(['orders', 'shipping'], 'must be orders, shipping, or both separated by a comma')),
);

const Switch = v.picklist(['true', 'false', '1', '0']);

/** Every variable that a program reads, with its default. An empty variable counts as missing. */
export const Variables = {
  ...ApiVariables,
  DATABASE_URL: DatabaseUrl,
  /** The database of the simulated payment company and carrier; DATABASE_URL when absent. */
  SANDBOX_DATABASE_URL: v.optional(DatabaseUrl),
  /** The database accounts of api and worker, to which migrate gives their rights; none when absent. */
  API_ACCOUNT: v.optional(DatabaseAccount),
  WORKER_ACCOUNT: v.optional(DatabaseAccount),
  TEMPORAL_ADDRESS: TemporalAddress,
  TEMPORAL_TLS: v.optional(Switch),
  TEMPORAL_TLS_CLIENT_CERT_PATH: v.optional(v.string()),
  TEMPORAL_TLS_CLIENT_CERT_DATA: v.optional(v.string()),
  TEMPORAL_TLS_CLIENT_KEY_PATH: v.optional(v.string()),
  TEMPORAL_TLS_CLIENT_KEY_DATA: v.optional(v.string()),
  TEMPORAL_TLS_SERVER_CA_CERT_PATH: v.optional(v.string()),
  TEMPORAL_TLS_SERVER_CA_CERT_DATA: v.optional(v.string()),
  TEMPORAL_TLS_SERVER_NAME: v.optional(v.string()),
  /** The file of connection profiles, and the one to use; without either no profile is read. */
  TEMPORAL_CONFIG_FILE: v.optional(v.string()),
  TEMPORAL_PROFILE: v.optional(v.string()),
  TEMPORAL_DEPLOYMENT_NAME: v.optional(v.string(), 'trellis-orders'),
  TEMPORAL_WORKER_BUILD_ID: v.optional(v.string()),
  /** The task queues that a worker polls. */
  WORKER_QUEUES: v.optional(Queues, 'orders,shipping'),
  /** The port of the worker's health checks; none when absent. */
  HEALTH_PORT: v.optional(Port),
  PORT: v.optional(Port, '8000'),
  HOST: v.optional(v.string(), '127.0.0.1'),
  /** The public halves of the keys that sign approvals; any approval is accepted when absent. */
  APPROVAL_PUBLIC_KEYS: v.optional(list(PublicKey)),
  /** The origin of Temporal's UI, whose pages may use the codec endpoint; no page may when absent. */
  TEMPORAL_UI_ORIGIN: v.optional(text(/^https?:\/\/[^/\s,*]+$/, 'must be an origin such as https://temporal.example')),
  FLAKY_CALL: v.optional(v.picklist(['on', 'off']), 'off'),
  LOG_LEVEL: v.optional(v.picklist(['trace', 'debug', 'info', 'warn', 'error', 'silent']), 'info'),
} as const;

/** A `TEMPORAL_ADDRESS` of either of Temporal's APIs. */
const TemporalEndpoint = v.pipe(
  v.union(
    [TemporalAddress, AnyTemporalUrl],
    'must be host:port, or an http or https URL without user, password and query',
  ),
  httpsUnless(isPrivate, HTTP_IS_PRIVATE),
);

/** How a program on Node reaches Temporal; @temporalio/envconfig reads them too (temporal-client.ts). */
const TEMPORAL = [
  'TEMPORAL_NAMESPACE',
  'TEMPORAL_API_KEY',
  'TEMPORAL_TLS',
  'TEMPORAL_TLS_CLIENT_CERT_PATH',
  'TEMPORAL_TLS_CLIENT_CERT_DATA',
  'TEMPORAL_TLS_CLIENT_KEY_PATH',
  'TEMPORAL_TLS_CLIENT_KEY_DATA',
  'TEMPORAL_TLS_SERVER_CA_CERT_PATH',
  'TEMPORAL_TLS_SERVER_CA_CERT_DATA',
  'TEMPORAL_TLS_SERVER_NAME',
  'TEMPORAL_CONFIG_FILE',
  'TEMPORAL_PROFILE',
] as const;

const pick = <K extends keyof typeof Variables>(...names: K[]) => {
  const entries = Object.fromEntries(names.map((name) => [name, Variables[name]]));
  return entries as Pick<typeof Variables, K>;
};

/** The variables of each program. */
export const PROGRAMS = {
  api: v.pipe(
    v.object({
      ...pick(
        'DATABASE_URL',
        ...TEMPORAL,
        'TEMPORAL_HTTP_HEADERS',
        ...AUTH,
        'APPROVAL_KEY',
        ...ENCRYPTION,
        'TEMPORAL_UI_ORIGIN',
        'HOST',
        'PORT',
        'POLICY',
        'CORS_ORIGINS',
        'LOG_LEVEL',
      ),
      TEMPORAL_ADDRESS: TemporalEndpoint,
    }),
    v.check((config) => knowsWho(config), UNKNOWN_CALLERS),
    v.check((config) => hasKeys(config), NO_KEYS),
    v.check(
      ({ AUTH, HOST }) => AUTH === 'on' || LOOPBACK.includes(HOST),
      'AUTH=off serves everybody, and so only this machine: HOST must be 127.0.0.1, ::1 or localhost',
    ),
  ),
  edge: EDGE,
  worker: v.pipe(
    v.object(
      pick(
        'DATABASE_URL',
        'SANDBOX_DATABASE_URL',
        'TEMPORAL_ADDRESS',
        ...TEMPORAL,
        'TEMPORAL_DEPLOYMENT_NAME',
        'TEMPORAL_WORKER_BUILD_ID',
        'APPROVAL_PUBLIC_KEYS',
        ...ENCRYPTION,
        'WORKER_QUEUES',
        'HEALTH_PORT',
        'FLAKY_CALL',
        'LOG_LEVEL',
      ),
    ),
    v.check((config) => hasKeys(config), NO_KEYS),
  ),
  /** Migrations need MySQL's own protocol. */
  migrate: v.object({
    ...pick('API_ACCOUNT', 'WORKER_ACCOUNT'),
    DATABASE_URL: MySqlUrl,
    SANDBOX_DATABASE_URL: v.optional(MySqlUrl),
  }),
  audit: v.object(pick('DATABASE_URL')),
  prune: v.object(pick('DATABASE_URL', 'TEMPORAL_ADDRESS', ...TEMPORAL)),
  prices: v.object(pick('DATABASE_URL')),
  gateway: v.object({ ...pick('PORT'), DATABASE_URL: MySqlUrl, GATEWAY_PASSWORD: v.string() }),
} as const;
