/** `npm run approval-key`: makes a key with which the API signs approvals, and prints the lines of both configurations. */
import { makeKey, publicKeyOf } from '@trellis/api/callers/own-keys';
import { print, script } from './options.ts';

script('npm run approval-key', 'Make a key with which the API signs approvals, and print it.').parse();

const key = await makeKey();
print(`APPROVAL_KEY=${publicKeyOf(key)}.${key.d}`);
print(`APPROVAL_PUBLIC_KEYS=${publicKeyOf(key)}`);
process.stderr.write('The first line is for the API, and secret. The second is for the workers.\n');
