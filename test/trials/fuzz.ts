/** `npm run fuzz`: valid and invalid requests generated from the OpenAPI document, on both runtimes. */
import { randomInt } from 'node:crypto';
import { moneyViolations, printAudit } from '@trellis/local/audit';
import { count, print, script, whole } from '@trellis/local/options';
import { withStack } from '@trellis/local/stack/stack';
import { fuzz } from './schemathesis.ts';

// The document says that callers need a token.
process.env.AUTH ??= 'on';

const { requests, seed = randomInt(2 ** 31) } = script(
  'npm run fuzz',
  'Send requests generated from the OpenAPI document to the API on Node and on workerd, and check the answers.',
)
  .option('--requests <count>', 'requests to each runtime, at least', count, 10_000)
  .option('--seed <number>', 'the same seed generates the same requests (default: random)', whole)
  .parse()
  .opts();

await withStack({ edge: true, say: print }, async ({ addresses, tokens }, folder) => {
  const { API_URL, EDGE_URL = '', DATABASE_URL } = addresses;
  print(`seed ${seed}`);
  for (const [runtime, url] of Object.entries({ Node: API_URL, workerd: EDGE_URL })) {
    const began = Date.now();
    const fuzzed = await fuzz(url, { requests, seed, folder, token: tokens?.everything });
    const seconds = Math.round((Date.now() - began) / 1000);
    print(
      `${runtime}: ${fuzzed.requests} requests in ${seconds} s, ${fuzzed.failure || 'every answer is as documented'}`,
    );
    if (fuzzed.failure) process.exitCode = 1;
  }
  printAudit(await moneyViolations(DATABASE_URL));
});
process.exit();
