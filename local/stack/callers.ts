/** The callers of a stack on this machine: the key that signs their tokens, and a token for each kind of them. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeKey, publicKeyOf, signToken } from '@trellis/api/callers/own-keys';
import { EVERY_SHOP, SCOPE_NAMES, type Scope } from '@trellis/contracts/scopes';
import { LOCAL, PRIVATE_FILE } from './folder.ts';

type Key = Awaited<ReturnType<typeof makeKey>>;

/** The key of `npm start`. */
export const KEY_FILE = join(LOCAL, 'token-key.json');

/** The audience of tokens unless AUTH_AUDIENCE names another. */
export const AUDIENCE = 'trellis-orders';

/** Whom a token is for: a caller of this name, with these scopes. All but `staff` are of one shop. */
export const CALLERS = {
  checkout: ['orders:start', 'orders:read'],
  office: ['orders:read', 'orders:read:personal', 'orders:list', 'orders:change'],
  approver: ['orders:read', 'orders:read:personal', 'orders:list', 'orders:approve'],
  staff: SCOPE_NAMES.filter((scope) => scope !== 'orders:start'),
  everything: SCOPE_NAMES,
} as const satisfies Record<string, readonly Scope[]>;
export type CallerName = keyof typeof CALLERS;
export type Tokens = Record<CallerName, string>;

/** The shop of the tokens of a stack. */
export const SHOP = 'acme';
const VALID_FOR = '12h';

/** The name of a caller's token in a stack's `env` file. */
export const tokenVariable = (caller: string): string => `${caller.toUpperCase()}_TOKEN`;
export const tokenVariables = (tokens: Tokens | undefined): Record<string, string> =>
  Object.fromEntries(Object.entries(tokens ?? {}).map(([caller, token]) => [tokenVariable(caller), token]));

/** The key in the file, which is made if there is none. Throws when the file holds anything else. */
export async function keyIn(file: string): Promise<{ key: Key; made: boolean }> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  });
  if (text !== undefined) return { key: parsed(text, file), made: false };
  const key = await makeKey();
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify(key)}\n`, { mode: PRIVATE_FILE, flag: 'wx' });
  return { key, made: true };
}

function parsed(text: string, file: string): Key {
  try {
    const key = JSON.parse(text) as Key;
    if (key.kty === 'OKP' && key.crv === 'Ed25519' && key.d && publicKeyOf(key)) return key;
  } catch {
    // It is no JSON.
  }
  throw new Error(`${file} holds no Ed25519 key as a JWK`);
}

/**
 * What the API of a stack is configured with, and the tokens that it accepts. `given`: the variables that the stack was started with; it asks
 * for tokens only if their AUTH is `on`, and has a key of its own, in `folder`, unless they say whose tokens it accepts.
 */
export async function callersOf(
  folder: string,
  given: NodeJS.ProcessEnv,
): Promise<{ auth: 'on' | 'off'; settings: NodeJS.ProcessEnv; tokens?: Tokens }> {
  const { AUTH_ISSUERS, AUTH_PUBLIC_KEYS, AUTH_AUDIENCE } = given;
  // Any other value is refused by the API.
  const { AUTH = 'off' } = given as { AUTH?: 'on' | 'off' };
  if (AUTH === 'off' || AUTH_ISSUERS || AUTH_PUBLIC_KEYS) return { auth: AUTH, settings: { AUTH } };
  const audience = AUTH_AUDIENCE || AUDIENCE;
  const { key } = await keyIn(join(folder, 'token-key.json'));
  const entries = Object.entries(CALLERS).map(async ([sub, scopes]) => {
    const shop = sub === 'staff' ? EVERY_SHOP : SHOP;
    return [sub, await signToken(key, { sub, scopes, shop, audience, expires: VALID_FOR })] as const;
  });
  const tokens = Object.fromEntries(await Promise.all(entries)) as Tokens;
  return { auth: AUTH, settings: { AUTH, AUTH_PUBLIC_KEYS: publicKeyOf(key) }, tokens };
}
