/** The key with which a stack on this machine encrypts what Temporal stores. */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PRIVATE_FILE } from './folder.ts';

/** What all programs of a stack have for these variables; an empty one counts as not set. */
export type EncryptionVariables = Record<'ENCRYPTION_KEYS' | 'ENCRYPT', string>;

/** A new value of ENCRYPTION_KEYS, named by the day. */
export const newEncryptionKey = (): string =>
  `${new Date().toISOString().slice(0, 10)}:${randomBytes(32).toString('base64url')}`;

/**
 * `given`: the variables that the stack was started with. If their ENCRYPT is `on` and they name no key, it has one of its own, in
 * `folder`. That one stays known without ENCRYPT, for what was encrypted before.
 */
export async function encryptionOf(folder: string, given: NodeJS.ProcessEnv): Promise<EncryptionVariables> {
  const { ENCRYPTION_KEYS = '', ENCRYPT = '' } = given;
  if (ENCRYPTION_KEYS) return { ENCRYPTION_KEYS, ENCRYPT };
  const file = join(folder, 'encryption-key');
  const known = await readFile(file, 'utf8').catch(() => '');
  if (known || ENCRYPT !== 'on') return { ENCRYPTION_KEYS: known.trim(), ENCRYPT };
  const key = newEncryptionKey();
  await writeFile(file, `${key}\n`, { mode: PRIVATE_FILE, flag: 'wx' });
  return { ENCRYPTION_KEYS: key, ENCRYPT };
}
