/** Configuration: an entry point reads its environment once, through a schema. */
import * as v from 'valibot';
import { POLICY_NAMES } from './policy.ts';

const Port = v.pipe(v.string(), v.regex(/^\d{1,5}$/, 'must be a port number'), v.transform(Number), v.maxValue(65_535));

const text = (form: RegExp, message: string) => v.pipe(v.string(), v.regex(form, message));

/** A database's URL says how it is reached: over MySQL's own protocol, or over HTTP as PlanetScale's driver does. Only what stays on one machine or network can do without TLS. */
export const MySqlUrl = text(/^mysql:\/\//, 'must start with mysql://');
export const PlanetScaleUrl = text(/^https?:\/\//, 'must start with https:// or http://');
const DatabaseUrl = v.union([MySqlUrl, PlanetScaleUrl], 'must start with mysql://, https:// or http://');

/** Temporal's address says which of its APIs it is. */
const TemporalAddress = text(/^[^/\s]+:\d+$/, 'must be host:port');
export const TemporalUrl = text(/^https?:\/\/[^/\s]+\/?$/, 'must be an http or https URL');

/** Variables shared by the entry points; each picks what it needs. An empty variable counts as missing. */
export const Variables = {
  DATABASE_URL: DatabaseUrl,
  SANDBOX_DATABASE_URL: v.optional(DatabaseUrl),
  TEMPORAL_ADDRESS: v.optional(TemporalAddress, '127.0.0.1:7233'),
  TEMPORAL_NAMESPACE: v.optional(v.string(), 'default'),
  TEMPORAL_API_KEY: v.optional(v.string()),
  TEMPORAL_DEPLOYMENT_NAME: v.optional(v.string(), 'trellis-orders'),
  TEMPORAL_WORKER_BUILD_ID: v.optional(v.string()),
  PORT: v.optional(Port, '8000'),
  HOST: v.optional(v.string(), '0.0.0.0'),
  /** Pages of these origins may call the API; only its own when absent. */
  CORS_ORIGINS: v.optional(
    v.pipe(
      v.string(),
      v.transform((list) => list.split(',').map((origin) => origin.trim())),
      v.array(
        text(/^(\*|https?:\/\/[^/\s]+)$/, 'must be origins such as https://shop.example, with commas between, or *'),
      ),
    ),
  ),
  POLICY: v.optional(v.picklist(POLICY_NAMES), 'exercise'),
  FLAKY_CALL: v.optional(v.picklist(['on', 'off']), 'off'),
  LOG_LEVEL: v.optional(v.picklist(['trace', 'debug', 'info', 'warn', 'error', 'silent']), 'info'),
} as const;

/** A `TEMPORAL_ADDRESS` for those who take either API. */
export const TemporalEndpoint = v.optional(
  v.union([TemporalAddress, TemporalUrl], 'must be host:port, or an http or https URL'),
  '127.0.0.1:7233',
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
  const name = `${issue.path?.[0]?.key ?? 'environment'}`;
  throw new ConfigError(name in present ? `${name} ${issue.message}` : `${name} is not set`);
}
