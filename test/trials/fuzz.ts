/** `npm run fuzz [-- --requests 10000] [--seed S]`: requests made from the OpenAPI document, sound ones and broken ones, on both runtimes. */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { reportBooks } from '@trellis/local/books';
import { startStack, throwAwayFolder } from '@trellis/local/stack/stack';
import * as v from 'valibot';
import { fuzz } from './schemathesis.ts';

const say = (line: string) => process.stdout.write(`${line}\n`);
const whole = v.pipe(v.string(), v.transform(Number), v.integer(), v.minValue(1));
const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '10000' },
    seed: { type: 'string', default: `${randomInt(2 ** 31)}` },
  },
});
const { requests, seed } = v.parse(v.object({ requests: whole, seed: whole }), values);

const { folder, remove } = await throwAwayFolder(say);
const stack = await startStack({ folder, persistent: false, edge: true, say });
try {
  const { API_URL, EDGE_URL = '', DATABASE_URL } = stack.addresses;
  say(`seed ${seed}`);
  for (const [runtime, url] of Object.entries({ Node: API_URL, workerd: EDGE_URL })) {
    const began = Date.now();
    const fuzzed = await fuzz(url, { requests, seed, folder });
    const seconds = Math.round((Date.now() - began) / 1000);
    say(
      `${runtime}: ${fuzzed.requests} requests in ${seconds} s, ${fuzzed.failure || 'every answer is as documented'}`,
    );
    if (fuzzed.failure) process.exitCode = 1;
  }
  await reportBooks(DATABASE_URL, say);
} finally {
  await stack.stop();
  await remove();
}
process.exit();
