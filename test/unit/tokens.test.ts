/** How the API reads tokens: those of an identity provider, by the keys that it publishes, and those of its own keys. */
import { createServer, type Server } from 'node:http';
import { makeKey, publicKeyOf, signToken } from '@trellis/api/callers/own-keys';
import { createAuthenticate } from '@trellis/api/callers/tokens';
import { ConfigError, PROGRAMS, readConfig } from '@trellis/contracts/config/variables';
import type { JWTPayload } from 'jose';
import { OAuth2Server } from 'oauth2-mock-server';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

const AUDIENCE = 'trellis-orders';
const CLAIMS = { sub: 'jane', scope: 'orders:read orders:list', shop: 'acme', amr: ['pwd'], aud: AUDIENCE };

const request = (token: string) => new Request('http://127.0.0.1/', { headers: { authorization: `Bearer ${token}` } });

describe('tokens of an identity provider', () => {
  let idp: OAuth2Server;
  beforeEach(async () => {
    idp = new OAuth2Server();
    await idp.issuer.keys.generate('RS256');
    await idp.start(0, '127.0.0.1');
    idp.issuer.url = `http://127.0.0.1:${idp.address().port}`;
  });
  afterEach(() => idp.stop().catch(() => undefined));

  const accepting = (issuer = idp.issuer.url ?? '') => {
    const authenticate = createAuthenticate({ AUTH: 'on', AUTH_ISSUERS: [issuer], AUTH_AUDIENCE: AUDIENCE });
    return async (token: string) => authenticate(request(token));
  };
  const issued = (claims: JWTPayload = {}, kid?: string) =>
    idp.issuer.buildToken({
      ...(kid && { kid }),
      scopesOrTransform: (_, payload) => Object.assign(payload, CLAIMS, claims),
    });

  test('say who their holder is, what it may do, and how it logged in', async () => {
    const caller = await accepting()(await issued());
    expect(caller).toEqual({
      actor: { sub: 'jane', shop: 'acme', via: idp.issuer.url },
      scopes: ['orders:read', 'orders:list'],
      shop: 'acme',
      isPerson: true,
    });
    expect(await accepting()(await issued({ amr: [], order: 'o-1' }))).toMatchObject({ isPerson: false, order: 'o-1' });
  });

  test('are checked with keys that are fetched once, however many tokens come', async () => {
    const accept = accepting();
    const fetched = vi.spyOn(globalThis, 'fetch');
    for (let n = 0; n < 50; n += 1) await accept(await issued());
    const urls = fetched.mock.calls.map(([url]) => `${url}`.slice(idp.issuer.url?.length));
    fetched.mockRestore();
    expect(urls).toEqual(['/.well-known/openid-configuration', '/jwks']);
  });

  test('of a key that it does not publish are refused', async () => {
    const token = await issued();
    const [head, body, signature = ''] = token.split('.');
    const forged = [head, body, `${signature.slice(0, -6)}AAAAAA`].join('.');
    await expect(accepting()(forged)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  });

  test.each([
    ['sub', { sub: '' }],
    ['sub', { sub: 'x'.repeat(201) }],
    ['shop', { shop: 'a/b' }],
    ['shop', { shop: ['acme'] }],
    ['order', { order: '..' }],
  ])('with another claim %s than the API knows are refused: %j', async (claim, claims) => {
    await expect(accepting()(await issued(claims as JWTPayload))).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      message: expect.stringContaining(claim),
    });
  });

  test('are answered UNAVAILABLE while it does not answer, and accepted once it does', async () => {
    const token = await issued();
    const { url = '' } = idp.issuer;
    const accept = accepting();
    const { port } = new URL(url);
    await idp.stop();
    await expect(accept(token)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    const broken = await answering(Number(port), 500, 'a proxy’s page');
    await expect(accept(token)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await closed(broken);
    await idp.start(Number(port), '127.0.0.1');
    idp.issuer.url = url;
    await vi.waitFor(async () => expect(await accept(token)).toMatchObject({ shop: 'acme' }), 5_000);
  });
});

describe('tokens of own keys', () => {
  test('are accepted by each of two keys, and by no other', async () => {
    const [one, next, other] = await Promise.all([makeKey(), makeKey(), makeKey()]);
    const AUTH_PUBLIC_KEYS = [publicKeyOf(one), publicKeyOf(next)];
    const authenticate = createAuthenticate({ AUTH: 'on', AUTH_PUBLIC_KEYS, AUTH_AUDIENCE: AUDIENCE });
    const tokenOf = (key: typeof one) =>
      signToken(key, { sub: 'jane', scopes: ['orders:approve'], audience: AUDIENCE, expires: '1m' });
    for (const key of [one, next])
      expect(await authenticate(request(await tokenOf(key)))).toMatchObject({
        actor: { sub: 'jane', via: 'trellis-orders' },
        isPerson: true,
        shop: '',
      });
    const refused = Promise.resolve(authenticate(request(await tokenOf(other))));
    await expect(refused).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  });
});

describe('the configuration', () => {
  const servers = { DATABASE_URL: 'https://u:p@h', TEMPORAL_ADDRESS: 'https://t.example' };

  test.each(['api', 'edge'] as const)('of %s says whose tokens are accepted, or AUTH=off', (program) => {
    const read = (env: Record<string, string>) => readConfig(PROGRAMS[program], { ...servers, ...env });
    expect(() => read({})).toThrow(/^AUTH_PUBLIC_KEYS or AUTH_ISSUERS is not set/);
    expect(() => read({ AUTH: 'on' })).toThrow(ConfigError);
    expect(read({ AUTH: 'off' })).toMatchObject({ AUTH: 'off' });
    expect(read({ AUTH_ISSUERS: 'https://a.example/, https://b.example' })).toMatchObject({
      AUTH: 'on',
      AUTH_ISSUERS: ['https://a.example/', 'https://b.example'],
    });
    const key = 'x'.repeat(43);
    expect(read({ AUTH_PUBLIC_KEYS: `${key},${key}` })).toMatchObject({ AUTH_PUBLIC_KEYS: [key, key] });
  });

  test.each([
    [{ AUTH: 'maybe' }, /^AUTH must be on or off/],
    [{ AUTH_ISSUERS: 'http://idp.example' }, /^AUTH_ISSUERS must be https/],
    [{ AUTH_PUBLIC_KEYS: 'a,b' }, /^AUTH_PUBLIC_KEYS must be public keys/],
    [{ AUTH: 'off', HOST: '0.0.0.0' }, /^AUTH=off serves everybody, and so only this machine/],
  ])('is refused with one line: %j', (env, line) => {
    expect(() => readConfig(PROGRAMS.api, { ...servers, ...env })).toThrow(line);
  });
});

async function answering(port: number, status: number, text: string): Promise<Server> {
  const server = createServer((_, response) => void response.writeHead(status).end(text));
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return server;
}

const closed = (server: Server) =>
  new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
