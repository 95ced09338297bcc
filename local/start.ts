/** `npm start`: the stack on this machine until Ctrl-C. Its data stays in `.local/`. */
import { randomInt } from 'node:crypto';
import { POLICIES, policyOf } from '@trellis/contracts/policy';
import { print, script } from './options.ts';
import { type CallerName, tokenVariable, tokenVariables } from './stack/callers.ts';
import { LOCAL } from './stack/folder.ts';
import { holdLock, interruption, releaseLock } from './stack/processes.ts';
import type { Stack } from './stack/stack.ts';

const { edge = false } = script('npm start', 'Run the stack on this machine until Ctrl-C. Its data stays in .local/.')
  .option('--edge', 'run the API on the edge runtime too')
  .parse()
  .opts();

if (!(await holdLock(LOCAL, 'start'))) {
  print('Trellis Orders already runs from this folder; its addresses are in .local/env');
  process.exit(1);
}
// Loaded after the check above, so that a second start fails at once.
const { startStack } = await import('./stack/stack.ts');
const { programVariables } = await import('./stack/node-programs.ts');

const interrupted = interruption();
try {
  const stack = await startStack({ folder: LOCAL, persistent: true, edge, say: print });
  for (const [name, address] of Object.entries(stack.addresses))
    print(`${name.padEnd(21)} ${withoutPassword(address)}`);
  print(
    'Trellis Orders is up. The addresses are in .local/env, with their passwords, the logs in .local/logs. Ctrl-C stops it.',
  );
  printTokens(stack);
  if (stack.encryption.ENCRYPT === 'on')
    print('\nWhat Temporal stores of orders is encrypted. The key is in .local/env, as ENCRYPTION_KEYS.');
  await printFirstSteps(stack.addresses.API_URL, stack.tokens);
  let stopping = false;
  for (const { name, exited } of stack.services)
    exited.then(() => {
      if (!stopping) print(`${name} exited unexpectedly; the end of .local/logs/${name}.log may show why`);
    });
  await interrupted;
  stopping = true;
  print('stopping…');
  await stack.stop();
} catch (error) {
  print(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
} finally {
  await releaseLock(LOCAL, 'start');
}
process.exit();

/** What a terminal may keep: of a URL with a user only the user, the server and the path. */
function withoutPassword(address: string): string {
  if (!URL.canParse(address)) return address;
  const { protocol, username, host, pathname } = new URL(address);
  return username ? `${protocol}//${username}@${host}${pathname}` : address;
}

/** Prints a token for each kind of caller, as the variables of .local/env, where the API asks for one. */
function printTokens({ auth, tokens }: Stack): void {
  if (tokens) print('\nCallers need a token. These are valid for 12 hours; npm run token signs others.');
  else if (auth === 'on')
    print('Callers need a token, of the issuers or keys that AUTH_ISSUERS and AUTH_PUBLIC_KEYS name.');
  else print('AUTH=off: every program on this machine may call the API. AUTH=on npm start asks for tokens.');
  for (const [name, token] of Object.entries(tokenVariables(tokens))) print(`${name}=${token}`);
}

/** Prints a line of shell that ships an order through this stack, and how long a person has to approve one. */
async function printFirstSteps(apiUrl: string, tokens: Stack['tokens']): Promise<void> {
  const id = `o-${randomInt(100_000, 1_000_000)}`;
  const as = (caller: CallerName) => (tokens ? `-H "Authorization: Bearer $${tokenVariable(caller)}" ` : '');
  const order = `{"payment_id":"pay-${id}","address":{"line1":"123 Main","city":"Chicago"},"items":[{"sku":"ABC","qty":1}]}`;
  print('\nTo ship an order, paste this line:');
  print(
    `${tokens ? '. .local/env; ' : ''}url=${apiUrl}/orders/${id}; curl -sw '\\n' ${as('checkout')}$url/start -d '${order}'; sleep 1; curl -sw '\\n' ${as('approver')}-X POST $url/signals/approve; sleep 5; curl -sw '\\n' ${as('checkout')}$url/status`,
  );
  print('To use the addresses in a shell, such as "$API_URL": . .local/env');
  const { POLICY } = await programVariables();
  if (policyOf(POLICY) !== POLICIES.exercise) return;
  const seconds = POLICIES.exercise.review_ms / 1000;
  const hours = POLICIES.production.review_ms / 3_600_000;
  print(
    `An order expires ${seconds} s after its validation unless it is approved (policy exercise). POLICY=production npm start gives a person ${hours} hours.`,
  );
}
