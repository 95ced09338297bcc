/** `npm run encryption-key`: makes a key for ENCRYPTION_KEYS, named by the day, and prints it. */
import { print, script } from './options.ts';
import { newEncryptionKey } from './stack/encryption.ts';

script('npm run encryption-key', 'Make a key for ENCRYPTION_KEYS, and print it.').parse();

print(`ENCRYPTION_KEYS=${newEncryptionKey()}`);
process.stderr.write('For the APIs, the edge and the workers, and secret. Who loses it loses what it encrypts.\n');
