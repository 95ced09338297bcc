/** The OpenAPI document as both runtimes serve it, and their answers to requests generated from it. */
import { expect, inject, test } from 'vitest';
import { need } from '../servers.ts';
import { fuzzShops, tableOf } from '../trials/fuzz-shops.ts';
import { fuzz } from '../trials/schemathesis.ts';

const { apis, key } = await need('apis');
/** Those that ask for tokens, as the document says. */
const [onNode, onWorkerd] = apis.filter(({ tokens }) => tokens !== undefined);
const RUNTIMES = [
  ['Node', onNode],
  ['workerd', onWorkerd],
] as const;
/** `npm run fuzz` sends more. */
const REQUESTS = { compared: 300, ofShops: 2_000 };
/** The servers and Schemathesis, which needs seconds to start, share the machine. */
const TIMEOUT_MS = 300_000;

const newSeed = () => Math.floor(Math.random() * 2 ** 31);

test('the OpenAPI document is the same on both runtimes, to the byte', async () => {
  const [one, other] = await Promise.all(
    [onNode, onWorkerd].map(async (api) => (await fetch(`${api?.url}/openapi.json`)).text()),
  );
  expect(one).toBe(other);
});

test.concurrent.each(RUNTIMES)(
  '%s answers generated requests as the OpenAPI document specifies',
  async (_, { url, tokens } = { name: '', url: '' }) => {
    const seed = newSeed();
    const { failure, requests } = await fuzz(url, {
      requests: REQUESTS.compared,
      seed,
      folder: inject('folder'),
      token: tokens?.starting,
    });
    expect(failure, `seed ${seed}`).toBe('');
    expect(requests).toBeGreaterThanOrEqual(REQUESTS.compared);
  },
  TIMEOUT_MS,
);

test.each(RUNTIMES)(
  '%s: no answer to a hostile caller holds anything of another shop, and none is a server error',
  async (_, { url } = { name: '', url: '' }) => {
    const seed = newSeed();
    const fuzzed = await fuzzShops(url, { key, requests: REQUESTS.ofShops, seed });
    expect(fuzzed.failures, `seed ${seed}\n${tableOf(fuzzed)}`).toEqual([]);
  },
  TIMEOUT_MS,
);
