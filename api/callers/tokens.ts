/** Bearer tokens: JWTs of the configured issuers, and those that `npm run token` signs with a key of the installation. */

import { MAX_ACTOR_LENGTH } from '@trellis/contracts/actor';
import { ed25519Key } from '@trellis/contracts/approval-proof';
import type { AuthConfig } from '@trellis/contracts/config/variables';
import { OrderError } from '@trellis/contracts/error';
import { ID_PATTERN, SHOP_PATTERN } from '@trellis/contracts/id';
import { EVERY_SHOP } from '@trellis/contracts/scopes';
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  decodeJwt,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from 'jose';
import { ANYBODY, type Caller } from './caller.ts';

/** The `iss` of the tokens that `npm run token` signs. */
export const OWN_ISSUER = 'trellis-orders';

/** Asymmetric ones only: the API holds no secret that could sign a token. */
const ALGORITHMS = ['EdDSA', 'Ed25519', 'ES256', 'ES384', 'PS256', 'RS256'];
/** By how much the issuer's clock may differ, seconds. */
const CLOCK_TOLERANCE_S = 10;
const FETCH_TIMEOUT_MS = 3_000;
/** After a failure, an issuer is asked no sooner than this. */
const RETRY_AFTER_MS = 500;

/** Finds out who sent a request. Throws UNAUTHENTICATED; UNAVAILABLE when the keys of the token's issuer can't be fetched. */
export type Authenticate = (request: Request) => Caller | Promise<Caller>;

export function createAuthenticate(config: AuthConfig): Authenticate {
  if (config.AUTH === 'off') return () => ANYBODY;
  const { AUTH_ISSUERS: issuers = [], AUTH_PUBLIC_KEYS: publicKeys = [], AUTH_AUDIENCE: audience } = config;
  const keysOf = new Map<string, JWTVerifyGetKey>(issuers.map((issuer) => [issuer, discoveredKeys(issuer)]));
  keysOf.set(OWN_ISSUER, createLocalJWKSet({ keys: publicKeys.map((x) => ed25519Key(x)) }));

  return async ({ headers }) => {
    const [, token] = /^Bearer +(\S+)$/i.exec(headers.get('authorization') ?? '') ?? [];
    if (token === undefined) throw unauthenticated('the request has no bearer token');
    try {
      const { iss: issuer = '' } = decodeJwt(token);
      const keys = keysOf.get(issuer);
      if (!keys) throw unauthenticated('the token is of an unknown issuer');
      const requiredClaims = ['sub', 'exp'];
      const options = { issuer, audience, algorithms: ALGORITHMS, requiredClaims, clockTolerance: CLOCK_TOLERANCE_S };
      return callerOf((await jwtVerify(token, keys, options)).payload, issuer);
    } catch (error) {
      if (error instanceof OrderError) throw error;
      if (error instanceof errors.JWTExpired) throw unauthenticated('the token has expired');
      if (error instanceof errors.JWTClaimValidationFailed)
        throw unauthenticated(`the token's claim ${error.claim} is missing or not accepted`);
      if (isUnreachable(error))
        throw new OrderError(
          'UNAVAILABLE',
          "the keys of the token's issuer can't be fetched",
          { retry_after: 1 },
          { cause: error },
        );
      throw unauthenticated('the token is not valid');
    }
  };
}

const unauthenticated = (message: string) => new OrderError('UNAUTHENTICATED', message);

/** The keys that an issuer publishes, found through its discovery document (OpenID Connect Discovery 1.0) at the first token. */
function discoveredKeys(issuer: string): JWTVerifyGetKey {
  let keys: JWTVerifyGetKey | undefined;
  let failed: { error: unknown; at: number } | undefined;
  return async (header, token) => {
    // Anybody can send a token that names this issuer.
    if (!keys && failed && performance.now() - failed.at < RETRY_AFTER_MS) throw failed.error;
    // Not shared between requests while it is under way: an edge runtime binds it to the request that began it.
    keys ??= await discover(issuer).catch((error) => {
      failed = { error, at: performance.now() };
      throw error;
    });
    return keys(header, token);
  };
}

async function discover(issuer: string): Promise<JWTVerifyGetKey> {
  const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
  const signal = AbortSignal.timeout(FETCH_TIMEOUT_MS);
  const answer = await fetch(url, { signal, headers: { accept: 'application/json' } }).catch((cause) => {
    throw new Unreachable(`${url} does not answer`, { cause });
  });
  const { jwks_uri } = (answer.ok ? await answer.json().catch(() => ({})) : {}) as { jwks_uri?: unknown };
  if (typeof jwks_uri !== 'string' || !URL.canParse(jwks_uri))
    throw new Unreachable(`${url}: ${answer.status}, no jwks_uri`);
  return createRemoteJWKSet(new URL(jwks_uri), { timeoutDuration: FETCH_TIMEOUT_MS });
}

class Unreachable extends Error {
  override readonly name = 'Unreachable';
}

/** jose reports an answer that is not a key set as a plain JOSEError, and passes the errors of `fetch` on. */
const isUnreachable = (error: unknown): boolean =>
  error instanceof Unreachable ||
  error instanceof errors.JWKSTimeout ||
  error instanceof errors.JWKSInvalid ||
  !(error instanceof errors.JOSEError) ||
  error.constructor === errors.JOSEError;

/** Throws UNAUTHENTICATED when a claim of ours is not as it must be. */
function callerOf(
  { sub = '', scope, shop = '', order, amr }: JWTPayload & Record<string, unknown>,
  issuer: string,
): Caller {
  if (sub === '' || sub.length > MAX_ACTOR_LENGTH) throw unauthenticated("the token's claim sub is not accepted");
  if (typeof shop !== 'string' || (shop !== '' && shop !== EVERY_SHOP && !SHOP_PATTERN.test(shop)))
    throw unauthenticated("the token's claim shop is not accepted");
  if (order !== undefined && (typeof order !== 'string' || !ID_PATTERN.test(order)))
    throw unauthenticated("the token's claim order is not accepted");
  return {
    actor: { sub, ...(shop !== '' && { shop }), via: issuer },
    scopes: typeof scope === 'string' ? scope.split(' ') : [],
    shop,
    ...(order !== undefined && { order }),
    // RFC 8176: how the subject authenticated. Tokens for a program's own use (client credentials) have none.
    isPerson: Array.isArray(amr) && amr.length > 0,
  };
}
