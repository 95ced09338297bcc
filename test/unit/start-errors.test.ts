/** A program that can't start prints the reason in one line on stderr and exits with 1. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { prepareTemporal } from '@trellis/local/stack/temporal-server';
import { expect, onTestFinished, test, vi } from 'vitest';

const run = async (program: string, variables: NodeJS.ProcessEnv) => {
  const { stderr, code } = await runNode([fileURLToPath(new URL(`../../${program}`, import.meta.url))], variables);
  return { stderr, code };
};

async function runNode(args: string[], variables: NodeJS.ProcessEnv) {
  const child = spawn(process.execPath, args, { env: { ...process.env, ...variables }, cwd: import.meta.dirname });
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')]);
  return { stdout, stderr, code };
}

test('the API names PORT when the port is taken', async () => {
  const holder = createServer().listen(0, '127.0.0.1');
  onTestFinished(() => void holder.close());
  await once(holder, 'listening');
  const { port } = holder.address() as AddressInfo;
  const given = {
    DATABASE_URL: 'mysql://server/x',
    TEMPORAL_ADDRESS: 'server:7233',
    AUTH: 'off',
    HOST: '127.0.0.1',
    PORT: `${port}`,
  };
  const stderr = `PORT ${port} on 127.0.0.1 is already in use\n`;
  expect(await run('api/node.ts', given)).toEqual({ stderr, code: 1 });
});

test('the worker names TEMPORAL_ADDRESS and the namespace when it can’t reach Temporal', async () => {
  const given = { DATABASE_URL: 'mysql://server/x', TEMPORAL_ADDRESS: '127.0.0.1:1', TEMPORAL_NAMESPACE: 'orders' };
  const stderr = expect.stringMatching(/^TEMPORAL_ADDRESS \(127\.0\.0\.1:1, namespace orders\): .*refused.*\n$/);
  expect(await run('workers/main.ts', given)).toEqual({ stderr, code: 1 });
});

test.each(['workers/main.ts', 'api/node.ts'])('%s connects to no default Temporal address', async (program) => {
  const home = mkdtempSync(join(tmpdir(), 'home-'));
  onTestFinished(() => rmSync(home, { recursive: true }));
  mkdirSync(join(home, 'temporalio'));
  writeFileSync(join(home, 'temporalio/temporal.toml'), '[profile.default]\naddress = "127.0.0.1:1"\n');
  const given = { DATABASE_URL: 'mysql://server/x', TEMPORAL_ADDRESS: '', HOME: home, XDG_CONFIG_HOME: home };
  expect(await run(program, given)).toEqual({ stderr: 'TEMPORAL_ADDRESS is not set\n', code: 1 });
});

/** Reads the configuration of a program, prints it, and does nothing else. */
const readConfiguration = (variables: NodeJS.ProcessEnv, program = 'worker') =>
  runNode(
    [
      '--input-type=module',
      '--eval',
      `import { fromEnvironmentAndProfile } from '@trellis/contracts/config/temporal-client';
       import { PROGRAMS } from '@trellis/contracts/config/variables';
       console.log(JSON.stringify(fromEnvironmentAndProfile(PROGRAMS.${program})));`,
    ],
    { DATABASE_URL: 'mysql://server/x', ...variables },
  );
const THIS_FILE = fileURLToPath(import.meta.url);

test.concurrent.for<[NodeJS.ProcessEnv, string]>([
  [{ TEMPORAL_TLS: 'yes' }, 'TEMPORAL_TLS Invalid type'],
  [{ TEMPORAL_TLS_CLIENT_CERT_PATH: '/nowhere' }, 'TEMPORAL_TLS_CLIENT_CERT: ENOENT'],
  [{ TEMPORAL_TLS_CLIENT_KEY_DATA: 'key' }, 'TEMPORAL_TLS_CLIENT_CERT_PATH is not set'],
  [{ TEMPORAL_TLS_SERVER_CA_CERT_PATH: THIS_FILE }, 'TEMPORAL_TLS_SERVER_CA_CERT: .*PEM'],
  [{ TEMPORAL_CONFIG_FILE: '/nowhere' }, 'TEMPORAL_CONFIG_FILE: there is no file /nowhere'],
  [{ TEMPORAL_PROFILE: 'nobody', XDG_CONFIG_HOME: '/nowhere' }, "TEMPORAL_PROFILE: Profile 'nobody' not found"],
])('Temporal’s variables %o end a program with one line', async ([given, line], { expect }) => {
  const { stderr, code } = await readConfiguration({ TEMPORAL_ADDRESS: 'server:7233', ...given });
  expect(stderr).toMatch(new RegExp(`^${line}.*\n$`));
  expect(code).toBe(1);
});

test('a fault in the file of profiles is named without a line of that file', async () => {
  const home = mkdtempSync(join(tmpdir(), 'home-'));
  onTestFinished(() => rmSync(home, { recursive: true }));
  const file = join(home, 'temporal.toml');
  writeFileSync(file, '[profile.default]\naddress = "server:7233"\napi_key = secret-1\n');
  const { stderr, code } = await readConfiguration({ TEMPORAL_CONFIG_FILE: file, TEMPORAL_ADDRESS: '' });
  expect({ stderr, code }).toEqual({
    stderr: 'TEMPORAL_CONFIG_FILE: Invalid TOML document: invalid value\n',
    code: 1,
  });
});

test.concurrent.for([
  ['worker', 'user:secret@server:7233'],
  ['api', 'user:secret@server:7233'],
  ['api', 'https://user:secret@server'],
  ['api', 'https://server?token=secret'],
])('the %s refuses an address of Temporal with a password, %s, and does not repeat it', async ([program, address], {
  expect,
}) => {
  const { stderr, code } = await readConfiguration({ TEMPORAL_ADDRESS: address }, program);
  expect(stderr).toMatch(/^TEMPORAL_ADDRESS must be host:port.*\n$/);
  expect(stderr).not.toContain('secret');
  expect(code).toBe(1);
});

test('the local stack refuses a URL of Temporal’s HTTP API with a password, and does not repeat it', async () => {
  vi.stubEnv('TEMPORAL_ADDRESS', 'server:7233');
  vi.stubEnv('TEMPORAL_HTTP_URL', 'https://user:secret@server');
  onTestFinished(() => void vi.unstubAllEnvs());
  const startServer = () => Promise.reject(new Error('a server of its own was started'));
  await expect(prepareTemporal({ persistent: true, startServer })).rejects.toThrow(
    /^TEMPORAL_HTTP_URL must be an http or https URL without user, password and query$/,
  );
});

test('a profile provides what the environment lacks', async () => {
  const home = mkdtempSync(join(tmpdir(), 'home-'));
  onTestFinished(() => rmSync(home, { recursive: true }));
  const file = join(home, 'temporal.toml');
  writeFileSync(file, '[profile.shop]\naddress = "server:7233"\nnamespace = "orders"\napi_key = "key"\n');
  const given = {
    TEMPORAL_CONFIG_FILE: file,
    TEMPORAL_PROFILE: 'shop',
    TEMPORAL_ADDRESS: '',
    TEMPORAL_NAMESPACE: 'mine',
  };
  const { stdout } = await readConfiguration(given);
  expect(JSON.parse(stdout)).toMatchObject({
    TEMPORAL_ADDRESS: 'server:7233',
    TEMPORAL_NAMESPACE: 'mine',
    temporal: { apiKey: 'key', tls: true },
  });
});
