/** Headers for a gateway in front of Temporal's HTTP API: from the configuration to the requests, and into no message. */
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createHttpTemporal } from '@trellis/api/temporal/http';
import { PROGRAMS, readConfig } from '@trellis/contracts/config/variables';
import { expect, onTestFinished, test } from 'vitest';

const read = (headers: string) =>
  readConfig(PROGRAMS.edge, {
    DATABASE_URL: 'https://db.example',
    TEMPORAL_ADDRESS: 'https://temporal.example',
    AUTH: 'off',
    TEMPORAL_HTTP_HEADERS: headers,
  }).TEMPORAL_HTTP_HEADERS;

test('are sent with every request, and replace none of the API’s own', async () => {
  const received: IncomingHttpHeaders[] = [];
  const server = createServer(({ headers }, response) => {
    received.push(headers);
    response.end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const headers = read('{"CF-Access-Client-Id":"id.access","Authorization":"another","ACCEPT":"text/html"}');
  const temporal = createHttpTemporal({ url, namespace: 'default', apiKey: 'key', headers });
  await temporal.ping(1_000);
  await temporal.signal('o-1', 'approve', []);
  const own = { accept: 'application/json+no-payload-shorthand', authorization: 'Bearer key' };
  const expected = { ...own, 'cf-access-client-id': 'id.access' };
  expect(received).toEqual([expect.objectContaining(expected), expect.objectContaining(expected)]);
});

test.each([
  's3cret',
  '"s3cret"',
  '["s3cret"]',
  'null',
  '{"s3cret":',
  '{"name":5135}',
  '{"name":{"a":"s3cret"}}',
  '{"a name":"s3cret"}',
  '{"name":"s3cret\\nother: s3cret"}',
])('of another form are refused with a line that does not repeat them: %s', (headers) => {
  expect(() => read(headers)).toThrow(
    /^TEMPORAL_HTTP_HEADERS must be a JSON object of the names and values of headers$/,
  );
});
