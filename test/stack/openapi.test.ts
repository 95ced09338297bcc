/** The OpenAPI document as both runtimes serve it, and their answers compared with it. */
import { expect, inject, test } from 'vitest';
import { need } from '../servers.ts';
import { fuzz } from '../trials/schemathesis.ts';

const { apis } = await need('apis');
/** Those that ask for tokens, as the document says. */
const [onNode, onWorkerd] = apis.filter(({ tokens }) => tokens !== undefined);
/** `npm run fuzz` sends more. */
const REQUESTS = 300;

test('the OpenAPI document is the same on both runtimes, to the byte', async () => {
  const [one, other] = await Promise.all(
    [onNode, onWorkerd].map(async (api) => (await fetch(`${api?.url}/openapi.json`)).text()),
  );
  expect(one).toBe(other);
});

test.each([
  ['Node', onNode],
  ['workerd', onWorkerd],
])(
  '%s answers generated requests as the OpenAPI document specifies',
  async (_, { url, tokens } = { name: '', url: '' }) => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    const { failure, requests } = await fuzz(url, {
      requests: REQUESTS,
      seed,
      folder: inject('folder'),
      token: tokens?.starting,
    });
    expect(failure, `seed ${seed}`).toBe('');
    expect(requests).toBeGreaterThanOrEqual(REQUESTS);
  },
  300_000,
);
