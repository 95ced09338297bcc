import { type SpecData, Validator } from '@seriousme/openapi-schema-validator';
import { expect, inject, test } from 'vitest';
import { fuzz } from '../trials/schemathesis.ts';

const [onNode, , onWorkerd] = inject('apis').map(({ url }) => url);
/** `npm run fuzz` sends more. */
const REQUESTS = 300;

test('the document is valid OpenAPI 3.1', async () => {
  const document = (await (await fetch(`${onNode}/openapi.json`)).json()) as SpecData;
  expect(await new Validator().validate(document)).toEqual({ valid: true });
});

test('the document is the same on both runtimes, to the byte', async () => {
  const [one, other] = await Promise.all(
    [onNode, onWorkerd].map(async (url) => (await fetch(`${url}/openapi.json`)).text()),
  );
  expect(one).toBe(other);
});

test.each([
  ['Node', onNode],
  ['workerd', onWorkerd],
])(
  '%s answers generated requests as the document says',
  async (_, url = '') => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    const { failure, requests } = await fuzz(url, { requests: REQUESTS, seed, folder: inject('folder') });
    expect(failure, `seed ${seed}`).toBe('');
    expect(requests).toBeGreaterThanOrEqual(REQUESTS);
  },
  300_000,
);
