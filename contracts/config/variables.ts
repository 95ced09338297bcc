/** Configuration: an entry point reads its environment once, through a schema. */
import * as v from 'valibot';
import { POLICY_NAMES } from '../policy.ts';

const Port = v.pipe(v.string(), v.regex(/^\d{1,5}$/, 'must be a port number'), v.transform(Number), v.maxValue(65_535));

const text = (form: RegExp, message: string) => v.pipe(v.string(), v.regex(form, message));

/** A URL; an unencoded `@`, `#`, `/` or `?` in its password would end the password. The message shows nothing of it. */
const url = (form: RegExp, message: string) =>
  v.pipe(
    text(form, message),
    v.check(
      (value) => URL.canParse(value) && !/[#@]/.test(value.replace(/^\w+:\/\/[^/?#]*/, '')),
      'is not a URL: encode special characters in its user and password',
    ),
  );

/** The URL's scheme selects the driver: MySQL's own protocol, or PlanetScale's over HTTP. `http://`, without TLS, is for one machine or a private network. */
const MySqlUrl = url(/^mysql:\/\//, 'must start with mysql://');
const PlanetScaleUrl = url(/^https?:\/\//, 'must start with https:// or http://');
const DatabaseUrl = url(/^(mysql|https?):\/\//, 'must start with mysql://, https:// or http://');

/** host:port is Temporal's gRPC API, a URL its HTTP API. Logs print both, so that neither may hold a password. */
const TemporalAddress = text(/^[^/@\s]+:\d+$/, 'must be host:port');
const TemporalUrl = text(/^https?:\/\/[^/@?#\s]+\/?$/, 'must be an http or https URL without user, password and query');

const Queues = v.pipe(
  v.string(),
  v.transform((list) => list.split(',')),
  v.array(v.picklist(['orders', 'shipping'], 'must be orders, shipping, or both separated by a comma')),
);

const Switch = v.picklist(['true', 'false', '1', '0']);

const list = <S extends v.GenericSchema<string>>(item: S) =>
  v.pipe(
    v.string(),
    v.transform((text) => text.split(',').map((part) => part.trim())),
    v.array(item),
  );

const Origins = list(
  text(/^(\*|https?:\/\/[^/\s]+)$/, 'must be origins such as https://shop.example, separated by commas, or *'),
);

/** Tokens, and the keys that check them, are only as secret as the connection on which they travel. */
const Issuer = v.pipe(
  text(/^https?:\/\/[^/?#\s]+[^?#\s]*$/, 'must be https URLs, separated by commas'),
  v.check((url) => url.startsWith('https:') || isLocal(url), 'must be https URLs: http is for this machine only'),
);

/** A name, and 32 bytes in base64url. */
const EncryptionKey = text(
  /^[A-Za-z0-9._-]{1,32}:[A-Za-z0-9_-]{43}$/,
  'must be keys as npm run encryption-key prints them, separated by commas',
);

const EncryptionKeys = v.pipe(
  list(EncryptionKey),
  v.check(
    (keys) => new Set(keys.map((key) => key.split(':', 1)[0])).size === keys.length,
    'must be keys of different names',
  ),
);

/** The `x` of an Ed25519 key as a JWK: 32 bytes in base64url. */
const PublicKey = text(/^[A-Za-z0-9_-]{43}$/, 'must be public keys as npm run token prints them, separated by commas');

export const LOOPBACK: readonly string[] = ['localhost', '127.0.0.1', '[::1]', '::1'];
const isLocal = (url: string) => URL.canParse(url) && LOOPBACK.includes(new URL(url).hostname);

/** Every variable that a program reads, with its default. An empty variable counts as missing. */
export const Variables = {
  DATABASE_URL: DatabaseUrl,
  /** The database of the simulated payment company and carrier; DATABASE_URL when absent. */
  SANDBOX_DATABASE_URL: v.optional(DatabaseUrl),
  TEMPORAL_ADDRESS: TemporalAddress,
  TEMPORAL_NAMESPACE: v.optional(v.string(), 'default'),
  TEMPORAL_API_KEY: v.optional(v.string()),
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
  /** Origins whose pages may call the API; only its own when absent. */
  CORS_ORIGINS: v.optional(Origins),
  /** Whether callers need a token. */
  AUTH: v.optional(v.picklist(['on', 'off'], 'must be on or off'), 'on'),
  /** The issuers whose tokens are accepted, by their `iss`. */
  AUTH_ISSUERS: v.optional(list(Issuer)),
  /** The public halves of the keys with which `npm run token` signs. */
  AUTH_PUBLIC_KEYS: v.optional(list(PublicKey)),
  /** What tokens must name in their claim `aud`. */
  AUTH_AUDIENCE: v.optional(v.string(), 'trellis-orders'),
  /** The key with which the API signs approvals, both halves; they are not signed when absent. */
  APPROVAL_KEY: v.optional(
    text(/^[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{43}$/, 'must be a key as npm run approval-key prints it'),
  ),
  /** The public halves of the keys that sign approvals; any approval is accepted when absent. */
  APPROVAL_PUBLIC_KEYS: v.optional(list(PublicKey)),
  /** The keys that the keys of orders are encrypted with: the first for new orders. Nothing is decrypted when absent. */
  ENCRYPTION_KEYS: v.optional(EncryptionKeys),
  /** Whether payloads are encrypted; with keys, and without this, they are decrypted only. */
  ENCRYPT: v.optional(v.picklist(['on', 'off'], 'must be on or off'), 'off'),
  POLICY: v.optional(v.picklist(POLICY_NAMES), 'exercise'),
  FLAKY_CALL: v.optional(v.picklist(['on', 'off']), 'off'),
  LOG_LEVEL: v.optional(v.picklist(['trace', 'debug', 'info', 'warn', 'error', 'silent']), 'info'),
} as const;

/** A `TEMPORAL_ADDRESS` of either of Temporal's APIs. */
const TemporalEndpoint = v.union(
  [TemporalAddress, TemporalUrl],
  'must be host:port, or an http or https URL without user, password and query',
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

/** Who may call the API. */
const AUTH = ['AUTH', 'AUTH_ISSUERS', 'AUTH_PUBLIC_KEYS', 'AUTH_AUDIENCE'] as const;
export type AuthConfig = v.InferOutput<v.ObjectSchema<Pick<typeof Variables, (typeof AUTH)[number]>, undefined>>;

const knowsWho = ({ AUTH, AUTH_ISSUERS, AUTH_PUBLIC_KEYS }: AuthConfig) =>
  AUTH === 'off' || AUTH_ISSUERS !== undefined || AUTH_PUBLIC_KEYS !== undefined;
const UNKNOWN_CALLERS =
  'AUTH_PUBLIC_KEYS or AUTH_ISSUERS is not set: whose tokens the API accepts (npm run token makes keys); AUTH=off serves everybody on this machine';

const ENCRYPTION = ['ENCRYPTION_KEYS', 'ENCRYPT'] as const;
const hasKeys = ({
  ENCRYPTION_KEYS,
  ENCRYPT,
}: v.InferOutput<v.ObjectSchema<Pick<typeof Variables, (typeof ENCRYPTION)[number]>, undefined>>) =>
  ENCRYPT === 'off' || ENCRYPTION_KEYS !== undefined;
const NO_KEYS = 'ENCRYPTION_KEYS is not set, and ENCRYPT is on';

/** The variables of each program. */
export const PROGRAMS = {
  api: v.pipe(
    v.object({
      ...pick(
        'DATABASE_URL',
        ...TEMPORAL,
        ...AUTH,
        'APPROVAL_KEY',
        ...ENCRYPTION,
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
  /** The API on the edge: HTTP only. */
  edge: v.pipe(
    v.object({
      ...pick(
        'TEMPORAL_API_KEY',
        'TEMPORAL_NAMESPACE',
        ...AUTH,
        'APPROVAL_KEY',
        ...ENCRYPTION,
        'POLICY',
        'CORS_ORIGINS',
      ),
      DATABASE_URL: PlanetScaleUrl,
      TEMPORAL_ADDRESS: TemporalUrl,
    }),
    v.check((config) => knowsWho(config), UNKNOWN_CALLERS),
    v.check((config) => hasKeys(config), NO_KEYS),
  ),
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
  migrate: v.object({ DATABASE_URL: MySqlUrl, SANDBOX_DATABASE_URL: v.optional(MySqlUrl) }),
  audit: v.object(pick('DATABASE_URL')),
  gateway: v.object({ ...pick('PORT'), DATABASE_URL: MySqlUrl, GATEWAY_PASSWORD: v.string() }),
} as const;

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** Parses the environment; throws a ConfigError of one line that names the first variable that is missing or malformed. */
export function readConfig<S extends v.GenericSchema>(
  schema: S,
  env: Record<string, string | undefined>,
): v.InferOutput<S> {
  const present = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
  const parsed = v.safeParse(schema, present, { abortEarly: true });
  if (parsed.success) return parsed.output;
  const issue = parsed.issues[0];
  // A rule on several variables names them itself.
  if (!issue.path) throw new ConfigError(issue.message);
  const name = `${issue.path[0]?.key}`;
  throw new ConfigError(name in present ? `${name} ${issue.message}` : `${name} is not set`);
}
