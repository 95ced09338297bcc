/** The variables of the API on every runtime, and how a configuration is read. Apart from variables.ts, because the edge bundle is bounded. */
import * as v from 'valibot';
import { POLICY_NAMES } from '../policy.ts';

export const text = (form: RegExp, message: string) => v.pipe(v.string(), v.regex(form, message));

export const LOOPBACK: readonly string[] = ['localhost', '127.0.0.1', '[::1]', '::1'];
const isLoopback = (host: string) => LOOPBACK.includes(host);

/** Loopback, the private ranges of IPv4 (RFC 1918) and IPv6 (RFC 4193), and names that no public DNS has: containers', `.internal`, `.local`. */
const PRIVATE_HOST =
  /^((127|10)(\.\d+){3}|192\.168(\.\d+){2}|172\.(1[6-9]|2\d|3[01])(\.\d+){2}|\[(::1|f[cd][\da-f]{2}:.*)\]|[\w-]+|.*\.(internal|local))$/i;
export const isPrivate = (host: string) => PRIVATE_HOST.test(host);

/** Passwords, tokens and the keys that check them are only as secret as the connection: http is for hosts that `isNear` accepts. */
export const httpsUnless = (isNear: (host: string) => boolean, message: string) =>
  v.check((url: string) => !url.startsWith('http://') || (URL.canParse(url) && isNear(new URL(url).hostname)), message);
export const HTTP_IS_PRIVATE =
  'must start with https:// as its host is public: http is for this machine and private networks';

/** A URL; an unencoded `@`, `#`, `/` or `?` in its password would end the password. The message shows nothing of it. */
export const url = (form: RegExp, message: string) =>
  v.pipe(
    text(form, message),
    v.check(
      (value) => URL.canParse(value) && !/[#@]/.test(value.replace(/^\w+:\/\/[^/?#]*/, '')),
      'is not a URL: encode special characters in its user and password',
    ),
    httpsUnless(isPrivate, HTTP_IS_PRIVATE),
  );

const PlanetScaleUrl = url(/^https?:\/\//, 'must start with https:// or http://');
export const AnyTemporalUrl = text(
  /^https?:\/\/[^/@?#\s]+\/?$/,
  'must be an http or https URL without user, password and query',
);
const TemporalUrl = v.pipe(AnyTemporalUrl, httpsUnless(isPrivate, HTTP_IS_PRIVATE));

/** Headers may be secret: the message shows nothing of them. */
const HEADERS_RULE = 'must be a JSON object of the names and values of headers';
const HeaderMap = v.pipe(
  v.string(),
  v.parseJson(undefined, HEADERS_RULE),
  v.custom<Record<string, string>>(areHeaders, HEADERS_RULE),
);

function areHeaders(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const headers = Object.entries(value);
  try {
    return headers.every(([, text]) => typeof text === 'string') && new Headers(headers) instanceof Headers;
  } catch {
    return false;
  }
}

export const list = <S extends v.GenericSchema<string>>(item: S) =>
  v.pipe(
    v.string(),
    v.transform((text) => text.split(',').map((part) => part.trim())),
    v.array(item),
  );

const Origins = list(
  text(/^(\*|https?:\/\/[^/\s]+)$/, 'must be origins such as https://shop.example, separated by commas, or *'),
);

const Issuer = v.pipe(
  text(/^https?:\/\/[^/?#\s]+[^?#\s]*$/, 'must be https URLs, separated by commas'),
  httpsUnless(isLoopback, 'must be https URLs: http is for this machine only'),
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
export const PublicKey = text(
  /^[A-Za-z0-9_-]{43}$/,
  'must be public keys as npm run token prints them, separated by commas',
);

/** Those of the API that are the same on Node and on the edge, with their defaults. */
export const ApiVariables = {
  TEMPORAL_NAMESPACE: v.optional(v.string(), 'default'),
  TEMPORAL_API_KEY: v.optional(v.string()),
  /** Sent with every request to Temporal's HTTP API, for a gateway in front of it. */
  TEMPORAL_HTTP_HEADERS: v.optional(HeaderMap),
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
  /** The keys that the keys of orders are encrypted with: the first for new orders. Nothing is decrypted when absent. */
  ENCRYPTION_KEYS: v.optional(EncryptionKeys),
  /** Whether payloads are encrypted; with keys, and without this, they are decrypted only. */
  ENCRYPT: v.optional(v.picklist(['on', 'off'], 'must be on or off'), 'off'),
  POLICY: v.optional(v.picklist(POLICY_NAMES), 'exercise'),
} as const;

type Outputs<K extends keyof typeof ApiVariables> = v.InferOutput<
  v.ObjectSchema<Pick<typeof ApiVariables, K>, undefined>
>;

/** Who may call the API. */
export const AUTH = ['AUTH', 'AUTH_ISSUERS', 'AUTH_PUBLIC_KEYS', 'AUTH_AUDIENCE'] as const;
export type AuthConfig = Outputs<(typeof AUTH)[number]>;

export const knowsWho = ({ AUTH, AUTH_ISSUERS, AUTH_PUBLIC_KEYS }: AuthConfig) =>
  AUTH === 'off' || AUTH_ISSUERS !== undefined || AUTH_PUBLIC_KEYS !== undefined;
export const UNKNOWN_CALLERS =
  'AUTH_PUBLIC_KEYS or AUTH_ISSUERS is not set: whose tokens the API accepts (npm run token makes keys); AUTH=off serves everybody on this machine';

export const ENCRYPTION = ['ENCRYPTION_KEYS', 'ENCRYPT'] as const;
export const hasKeys = ({ ENCRYPTION_KEYS, ENCRYPT }: Outputs<(typeof ENCRYPTION)[number]>) =>
  ENCRYPT === 'off' || ENCRYPTION_KEYS !== undefined;
export const NO_KEYS = 'ENCRYPTION_KEYS is not set, and ENCRYPT is on';

/** The API on the edge: HTTP only. */
export const EDGE = v.pipe(
  v.object({ ...ApiVariables, DATABASE_URL: PlanetScaleUrl, TEMPORAL_ADDRESS: TemporalUrl }),
  v.check((config) => knowsWho(config), UNKNOWN_CALLERS),
  v.check((config) => hasKeys(config), NO_KEYS),
);

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
