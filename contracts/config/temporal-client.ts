/** How a process on Node reaches Temporal, and its client over gRPC. */
import { X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { Client, type ConnectionLike, defaultPayloadConverter, type Payload } from '@temporalio/client';
import {
  type ClientConfigProfile,
  type ClientConnectConfig,
  loadClientConfigProfile,
  loadConfigData,
  toClientOptions,
} from '@temporalio/envconfig';
import type { GenericSchema, InferOutput } from 'valibot';
import type { Encryption } from '../payload-codec.ts';
import { readOrExit } from './environment.ts';
import { ConfigError, readConfig } from './variables.ts';

/** The options of `Connection` and `NativeConnection` besides the address. An API key turns TLS on unless TEMPORAL_TLS is false. */
export type TemporalOptions = Omit<ClientConnectConfig['connectionOptions'], 'address'>;

/**
 * As `fromEnvironment`, for a program that connects to Temporal; `temporal` is how. What the environment lacks is taken from
 * a profile of Temporal's configuration file if TEMPORAL_PROFILE or TEMPORAL_CONFIG_FILE is set. Else no file is read: a
 * user's default profile may belong to another Temporal.
 */
export function fromEnvironmentAndProfile<S extends GenericSchema<unknown, object>>(
  schema: S,
): InferOutput<S> & { temporal: TemporalOptions } {
  return readOrExit((env) => {
    const profile = profileFrom(env);
    const { address: TEMPORAL_ADDRESS, namespace: TEMPORAL_NAMESPACE } = profile;
    const config: InferOutput<S> = readConfig(schema, { ...env, TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE });
    checkCertificates(profile);
    const { address: _, ...temporal } = toClientOptions(profile).connectionOptions;
    if (typeof temporal.tls === 'object' && TEMPORAL_ADDRESS?.startsWith('http://'))
      throw new ConfigError('TEMPORAL_ADDRESS must start with https:// when TEMPORAL_TLS or a certificate is set');
    return { ...config, temporal };
  });
}

/** The profile; variables of the environment override its values. */
function profileFrom(env: NodeJS.ProcessEnv): ClientConfigProfile {
  const set = Object.fromEntries(Object.entries(env).filter(([, value]) => value)) as Record<string, string>;
  const { TEMPORAL_CONFIG_FILE: file, TEMPORAL_PROFILE: name } = set;
  if (file !== undefined && !existsSync(file)) throw new ConfigError(`TEMPORAL_CONFIG_FILE: there is no file ${file}`);
  const disableFile = file === undefined && name === undefined;
  const ofFile = name === undefined ? 'TEMPORAL_CONFIG_FILE' : 'TEMPORAL_PROFILE';
  return checked(disableFile ? 'TEMPORAL_TLS' : ofFile, () =>
    loadClientConfigProfile({ overrideEnvVars: set, disableFile }),
  );
}

/** Throws a ConfigError that names the variable if a certificate or a key can't be read, or does not fit the other. */
function checkCertificates({ tls = {} }: ClientConfigProfile): void {
  const ca = checked('TEMPORAL_TLS_SERVER_CA_CERT', () => loadConfigData(tls.serverCACert));
  const cert = checked('TEMPORAL_TLS_CLIENT_CERT', () => loadConfigData(tls.clientCert));
  const key = checked('TEMPORAL_TLS_CLIENT_KEY', () => loadConfigData(tls.clientKey));
  if (ca) checked('TEMPORAL_TLS_SERVER_CA_CERT', () => new X509Certificate(ca));
  if (cert && !key) throw new ConfigError('TEMPORAL_TLS_CLIENT_KEY_PATH is not set');
  if (key && !cert) throw new ConfigError('TEMPORAL_TLS_CLIENT_CERT_PATH is not set');
  if (!cert || !key) return;
  checked('TEMPORAL_TLS_CLIENT_CERT', () => new X509Certificate(cert));
  checked('TEMPORAL_TLS_CLIENT_KEY', () => createSecureContext({ cert: Buffer.from(cert), key: Buffer.from(key) }));
}

/** Only the first line of an error is shown: those of a file that can't be parsed quote it, a key beside the fault too. */
function checked<T>(variable: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new ConfigError(`${variable}: ${(error as Error).message.trim().split('\n', 1)}`);
  }
}

/** A client on a connection, which the caller closes. */
export function createTemporalClient(
  connection: ConnectionLike,
  namespace = 'default',
  encryption?: Encryption,
): Client {
  // The last one decodes first.
  const payloadCodecs = [readable, ...(encryption ? [encryption] : [])];
  return new Client({ connection, namespace, dataConverter: { payloadCodecs } });
}

/** Reads a payload in an unknown encoding as null: another caller may have written an order's memo in one. */
const readable = {
  encode: async (payloads: Payload[]) => payloads,
  decode: async (payloads: Payload[]) =>
    payloads.map((payload) => (isReadable(payload) ? payload : defaultPayloadConverter.toPayload(null))),
};

function isReadable(payload: Payload): boolean {
  try {
    defaultPayloadConverter.fromPayload(payload);
    return true;
  } catch {
    return false;
  }
}
