/** `npm run fuzz`: valid and invalid requests generated from the OpenAPI document, of callers of two shops, on both runtimes. */
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { publicKeyOf } from '@trellis/api/callers/own-keys';
import { printAudit, violationsIn } from '@trellis/local/audit';
import { count, print, script, whole } from '@trellis/local/options';
import { keyIn } from '@trellis/local/stack/callers';
import { withStack } from '@trellis/local/stack/stack';
import { fuzzShops, tableOf } from './fuzz-shops.ts';
import { fuzz } from './schemathesis.ts';
import { bundleWorker, startWorkerd } from './workerd.ts';

/** The share of the requests that Schemathesis generates, which compares each answer with the document. It is much slower than the API. */
const BY_SCHEMATHESIS = 0.02;

process.env.AUTH = 'on';

const { requests, seed = randomInt(2 ** 31) } = script(
  'npm run fuzz',
  'Send requests generated from the OpenAPI document to the API on Node and on workerd, as callers of two shops, and check the answers.',
)
  .option('--requests <count>', 'requests to each runtime, at least', count, 10_000)
  .option('--seed <number>', 'the same seed generates the same requests (default: random)', whole)
  .parse()
  .opts();

await withStack({ edge: true, say: print }, async ({ addresses, tokens, encryption }, folder) => {
  const { API_URL, EDGE_URL = '', DATABASE_URL, PLANETSCALE_URL = '', TEMPORAL_HTTP_URL } = addresses;
  const { key } = await keyIn(join(folder, 'token-key.json'));
  const edge = await startWorkerd(await bundleWorker(join(folder, 'workerd')), {
    ...encryption,
    AUTH: 'on',
    AUTH_PUBLIC_KEYS: publicKeyOf(key),
    POLICY: 'exercise',
    DATABASE_URL: PLANETSCALE_URL,
    TEMPORAL_ADDRESS: TEMPORAL_HTTP_URL,
  });
  print(`seed ${seed}`);
  for (const { runtime, url, direct } of [
    { runtime: 'Node', url: API_URL, direct: API_URL },
    { runtime: 'workerd', url: EDGE_URL, direct: edge.url },
  ]) {
    const share = Math.ceil(requests * BY_SCHEMATHESIS);
    const [compared, comparing] = await timed(() =>
      fuzz(url, { requests: share, seed, folder, token: tokens?.everything }),
    );
    print(
      `${runtime}: ${compared.requests} requests of Schemathesis in ${comparing} s, ${compared.failure || 'every answer is as documented'}`,
    );
    const [ofShops, sending] = await timed(() => fuzzShops(direct, { key, requests: requests - share, seed }));
    print(tableOf(ofShops));
    const found = ofShops.failures.join('\n\n') || 'no server error, nothing of another shop';
    print(`${runtime}: ${requests - share} requests of many callers in ${sending} s, ${found}`);
    if (compared.failure || ofShops.failures.length > 0) process.exitCode = 1;
  }
  await edge.stop();
  printAudit(await violationsIn(DATABASE_URL));
});
process.exit();

/** The result, and the whole seconds that it took. */
async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const began = Date.now();
  return [await work(), Math.round((Date.now() - began) / 1000)];
}
