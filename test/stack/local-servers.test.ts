/** What the servers of the local stack refuse: the requests that a page in a browser on the same machine could send, and files. */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { startDatabase } from '@trellis/local/stack/database-server';
import { freePort } from '@trellis/local/stack/ports';
import { createConnection } from 'mysql2/promise';
import { describe, expect, inject, test } from 'vitest';
import { need } from '../servers.ts';

const { PLANETSCALE_URL, TEMPORAL_HTTP_URL, DATABASE_URL, apis } = await need(
  'gateway',
  'temporal',
  'database',
  'apis',
);
const EXECUTE = '/psdb.v1alpha1.Database/Execute';
const { username, password } = new URL(PLANETSCALE_URL);
const basic = (user: string, secret: string) => `Basic ${Buffer.from(`${user}:${secret}`).toString('base64')}`;

/** `fetch` does not send another host than the URL's. */
async function send(
  url: string,
  { headers = {}, body }: { headers?: Record<string, string>; body?: object },
): Promise<{ status: number | undefined; text: string }> {
  const { hostname, port, pathname } = new URL(url);
  const method = body ? 'POST' : 'GET';
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const sent = request({ hostname, port, path: pathname, method, headers }, resolve).on('error', reject);
    sent.end(body && JSON.stringify(body));
  });
  return { status: answer.statusCode, text: await text(answer) };
}

describe('the gateway', () => {
  const execute = (query: string, headers: Record<string, string> = {}) => {
    const authorization = basic(username, password);
    return send(new URL(EXECUTE, PLANETSCALE_URL).href, {
      headers: { authorization, ...headers },
      body: { query, session: null },
    });
  };
  const { port } = new URL(PLANETSCALE_URL);

  test('answers under its password and the names of this machine only', async () => {
    for (const host of [`127.0.0.1:${port}`, `localhost:${port}`])
      expect((await execute('SELECT 1', { host })).status, host).toBe(200);
    for (const host of [`attacker.example:${port}`, 'attacker.example', '127.0.0.1'])
      expect((await execute('SELECT 1', { host })).status, host).toBe(403);
    for (const authorization of ['', basic(username, ''), basic(username, 'local'), basic('%', password.slice(1))])
      expect((await execute('SELECT 1', { authorization })).status, authorization).toBe(401);
  });

  test('reads and writes no file for a statement', async () => {
    const file = join(inject('folder'), 'written-by-sql');
    const answerTo = async (query: string) => JSON.parse((await execute(query)).text);
    const read = await answerTo("SELECT LOAD_FILE('/etc/passwd')");
    expect(read.error ?? read.result.rows).toEqual([{ lengths: ['-1'], values: '' }]);
    for (const into of ['OUTFILE', 'DUMPFILE'])
      expect((await answerTo(`SELECT 'x' INTO ${into} '${file}'`)).error.message).toContain('secure-file-priv');
    await expect(stat(file)).rejects.toThrow('ENOENT');
    await answerTo('CREATE TABLE lines_of_a_file (line TEXT)');
    for (const local of ['', 'LOCAL'])
      expect(
        (await answerTo(`LOAD DATA ${local} INFILE '/etc/passwd' INTO TABLE lines_of_a_file`)).error,
      ).toBeDefined();
  });
});

describe.skipIf(process.env.DATABASE_URL)('the private SQL server', () => {
  const withoutDatabase = (url: string) => Object.assign(new URL(url), { pathname: '' });

  test('has no root without a password, and keeps the password to its owner', async () => {
    const url = withoutDatabase(DATABASE_URL);
    const server = await createConnection(url.href);
    const [open] = await server.query("SELECT host FROM mysql.user WHERE user = 'root' AND authentication_string = ''");
    await server.end();
    expect(open).toEqual([]);
    url.password = '';
    await expect(createConnection(url.href)).rejects.toMatchObject({ errno: 1045 });
    for (const name of ['sql.password', 'sql.init'])
      expect((await stat(join(inject('folder'), name))).mode & 0o777, name).toBe(0o600);
  });

  test('gives a password to data that was created without one, and knows it after a restart', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'trellis-sql-'));
    const start = async () => startDatabase({ folder, port: await freePort(), say: () => {} });
    const first = await start();
    const root = await createConnection(first.url);
    await root.query("ALTER USER 'root'@'localhost' IDENTIFIED BY ''");
    await root.end();
    await first.stop();
    await rm(join(folder, 'sql.password'));

    const passwords: string[] = [];
    for (let restart = 0; restart < 2; restart += 1) {
      const again = await start();
      passwords.push(new URL(again.url).password);
      await (await createConnection(again.url)).end();
      await again.stop();
    }
    await rm(folder, { recursive: true });
    expect(passwords).toEqual([expect.stringMatching(/^\w{32}$/), passwords[0]]);
  }, 60_000);
});

test('Temporal’s HTTP API answers under the names of this machine only', async () => {
  const { port } = new URL(TEMPORAL_HTTP_URL);
  const ask = (host: string) => send(`${TEMPORAL_HTTP_URL}/api/v1/namespaces/default`, { headers: { host } });
  for (const host of ['127.0.0.1', 'localhost']) expect((await ask(`${host}:${port}`)).status, host).toBe(200);
  expect((await ask(`attacker.example:${port}`)).status).toBe(403);
});

test.each(
  apis.filter(({ tokens }) => !tokens),
)('an API that asks for no tokens answers under the names of this machine only: $name', async ({ url }) => {
  const { port } = new URL(url);
  const ask = (host: string) => send(`${url}/orders`, { headers: { host } });
  for (const host of [`127.0.0.1:${port}`, `localhost:${port}`]) expect((await ask(host)).status, host).toBe(200);
  for (const host of [`attacker.example:${port}`, 'attacker.example']) expect((await ask(host)).status, host).toBe(403);
});
