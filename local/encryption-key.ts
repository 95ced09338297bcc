/** `npm run encryption-key`: makes a key for ENCRYPTION_KEYS, named by the day, and prints it. */
import { randomBytes } from 'node:crypto';
import { print, script } from './options.ts';

script('npm run encryption-key', 'Make a key for ENCRYPTION_KEYS, and print it.').parse();

print(`ENCRYPTION_KEYS=${new Date().toISOString().slice(0, 10)}:${randomBytes(32).toString('base64url')}`);
process.stderr.write('For the APIs, the edge and the workers, and secret. Who loses it loses what it encrypts.\n');
