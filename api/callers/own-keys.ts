/** The installation's own keys, which sign tokens where there is no identity provider. */
import type { Scope } from '@trellis/contracts/scopes';
import { exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from 'jose';
import { OWN_ISSUER } from './tokens.ts';

/** What a token says. `expires`: from now, such as `12h`. */
export interface TokenClaims {
  sub: string;
  scopes: readonly Scope[];
  audience: string;
  expires: string;
  /** A shop's id, or EVERY_SHOP. */
  shop?: string | undefined;
  /** The id of the only order that the token is for. */
  order?: string | undefined;
}

/** A new private key, an Ed25519 key as a JWK. */
export async function makeKey(): Promise<JWK> {
  const { privateKey } = await generateKeyPair('Ed25519', { extractable: true });
  const { kty, crv, x, d } = await exportJWK(privateKey);
  return { kty, crv, x, d } as JWK;
}

/** The public half of a private key, for AUTH_PUBLIC_KEYS. */
export const publicKeyOf = ({ x = '' }: JWK): string => x;

/** A signed token. Who may approve is a person, as whoever holds the key says by signing. */
export async function signToken(key: JWK, claims: TokenClaims): Promise<string> {
  const { sub, scopes, audience, expires, shop, order } = claims;
  const own = {
    scope: scopes.join(' '),
    ...(shop !== undefined && { shop }),
    ...(order !== undefined && { order }),
    ...(scopes.includes('orders:approve') && { amr: ['user'] }),
  };
  return new SignJWT(own)
    .setProtectedHeader({ alg: 'Ed25519', kid: publicKeyOf(key), typ: 'at+jwt' })
    .setIssuer(OWN_ISSUER)
    .setAudience(audience)
    .setSubject(sub)
    .setJti(crypto.randomUUID())
    .setIssuedAt()
    .setExpirationTime(expires)
    .sign(await importJWK(key, 'Ed25519'));
}
