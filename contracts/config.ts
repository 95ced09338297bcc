/** Configuration: an entry point reads its environment once, through a schema. */
import * as v from 'valibot';
import { POLICY_NAMES } from './policy.ts';

const Port = v.pipe(v.string(), v.regex(/^\d{1,5}$/, 'must be a port number'), v.transform(Number), v.maxValue(65_535));

const MySqlUrl = v.pipe(v.string(), v.regex(/^mysql:\/\//, 'must start with mysql://'));

/** Variables shared by the entry points; each picks what it needs. An empty variable counts as missing. */
export const Variables = {
  DATABASE_URL: MySqlUrl,
  SANDBOX_DATABASE_URL: v.optional(MySqlUrl),
  TEMPORAL_ADDRESS: v.optional(v.pipe(v.string(), v.regex(/^[^/\s]+:\d+$/, 'must be host:port')), '127.0.0.1:7233'),
  TEMPORAL_NAMESPACE: v.optional(v.string(), 'default'),
  TEMPORAL_API_KEY: v.optional(v.string()),
  TEMPORAL_DEPLOYMENT_NAME: v.optional(v.string(), 'trellis-orders'),
  TEMPORAL_WORKER_BUILD_ID: v.optional(v.string()),
  PORT: v.optional(Port, '8000'),
  HOST: v.optional(v.string(), '0.0.0.0'),
  POLICY: v.optional(v.picklist(POLICY_NAMES), 'exercise'),
  FLAKY_CALL: v.optional(v.picklist(['on', 'off']), 'off'),
  LOG_LEVEL: v.optional(v.picklist(['trace', 'debug', 'info', 'warn', 'error', 'silent']), 'info'),
} as const;

/** A `TEMPORAL_ADDRESS` for those who may take Temporal's HTTP API instead: its form says which. */
export const TemporalEndpoint = v.optional(
  v.pipe(v.string(), v.regex(/^([^/\s]+:\d+|https?:\/\/[^/\s]+\/?)$/, 'must be host:port, or an http or https URL')),
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
  const name = v.getDotPath(issue) ?? 'environment';
  throw new ConfigError(name in present ? `${name} ${issue.message}` : `${name} is not set`);
}
