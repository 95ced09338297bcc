import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { createConnection } from 'mysql2/promise';
import pRetry from 'p-retry';
import { type Service, startProcess } from './processes.ts';
import { cached, findExecutable, run } from './programs.ts';

type Say = (line: string) => void;

/** A database server's executable. */
interface Program {
  server: string;
  /** Options that locate its files when it is unpacked rather than installed. */
  layout: string[];
  env: NodeJS.ProcessEnv;
}

const SERVERS = ['mariadbd', 'mysqld'];
const SYSTEM_FOLDERS = ['/usr/sbin', '/usr/local/sbin'];

/**
 * Starts a private MySQL-compatible server on 127.0.0.1:port with its data in `<folder>/sql`, created when absent. Resolves
 * once it answers queries at `url`. `settings` are further options of the server, which win over those here. Throws an Error with the remedies when no server is found.
 */
export async function startDatabase(options: {
  folder: string;
  port: number;
  say: Say;
  settings?: string[];
}): Promise<Service & { url: string }> {
  const { folder, port, say, settings = [] } = options;
  const data = resolve(folder, 'sql');
  const program = await findServer(say);
  if (!existsSync(data)) await createData(program, data);
  const url = `mysql://root@127.0.0.1:${port}`;
  const service = await startProcess(folder, {
    name: 'sql',
    command: program.server,
    args: [
      ...serverOptions(program, data),
      // Relative to the data folder: a socket's absolute path is limited to 107 characters.
      ...[
        '--socket=sql.sock',
        '--pid-file=sql.pid',
        '--bind-address=127.0.0.1',
        `--port=${port}`,
        '--loose-mysqlx=OFF',
      ],
      ...['--character-set-server=utf8mb4', '--skip-log-bin', '--innodb-buffer-pool-size=64M', '--max-connections=500'],
      // The log is written at every commit and synced every second: commits survive a killed process, but not a power failure.
      '--innodb-flush-log-at-trx-commit=2',
      ...settings,
    ],
    env: program.env,
    ready: (signal) =>
      pRetry(() => execute(url, 'SELECT 1'), { retries: Number.POSITIVE_INFINITY, factor: 1, minTimeout: 50, signal }),
  });
  return { ...service, url };
}

/**
 * A database for a stack: the one that DATABASE_URL names, else one on the server that `startServer` starts. A stack that
 * is not persistent gets a new database, also on a named server; `drop` removes it from there. Throws an Error that
 * names the variable and the server, without the password, when DATABASE_URL can't be used.
 */
export async function prepareDatabase(options: {
  persistent: boolean;
  startServer: () => Promise<{ url: string }>;
}): Promise<{ url: string; drop(): Promise<void> }> {
  const { persistent, startServer } = options;
  const named = process.env.DATABASE_URL;
  if (named) await checkNamed(named);
  if (named && persistent) return { url: named, drop: async () => {} };
  const server = named || (await startServer()).url;
  const database = persistent ? 'trellis' : `trellis_${randomBytes(4).toString('hex')}`;
  await execute(server, `CREATE DATABASE IF NOT EXISTS ${database}`);
  const url = new URL(server);
  url.pathname = `/${database}`;
  return {
    url: url.href,
    async drop() {
      if (named) await execute(named, `DROP DATABASE ${database}`);
    },
  };
}

async function checkNamed(url: string): Promise<void> {
  if (!url.startsWith('mysql:'))
    throw new Error(
      'DATABASE_URL must start with mysql:// here: migrations and the gateway speak MySQL’s own protocol',
    );
  if (!URL.canParse(url)) throw new Error('DATABASE_URL is not a URL');
  await execute(url, 'SELECT 1').catch((cause) => {
    const { host, pathname } = new URL(url);
    throw new Error(`DATABASE_URL: no connection to mysql://${host}${pathname}: ${cause.message || cause.code}`, {
      cause,
    });
  });
}

async function execute(url: string, statement: string): Promise<void> {
  const connection = await createConnection({ uri: url, connectTimeout: 5_000 });
  await connection.query(statement).finally(() => connection.end());
}

/** Initialises a draft and renames it, so that an interrupted initialisation is never used as a database. */
async function createData(program: Program, data: string): Promise<void> {
  const draft = `${data}.draft`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(dirname(data), { recursive: true });
  const { stdout: version } = await promisify(execFile)(program.server, ['--version'], { env: program.env });
  if (version.includes('MariaDB')) {
    const besideServer = ['../bin', '../scripts'].map((folder) => join(dirname(program.server), folder));
    const name = ['mariadb-install-db'];
    const installer = (await findExecutable(name, besideServer)) ?? (await findExecutable(name));
    if (!installer) throw new Error(`mariadb-install-db, which belongs to ${program.server}, is missing`);
    const root = ['--auth-root-authentication-method=normal', '--skip-test-db'];
    await run(installer, [...serverOptions(program, draft), ...root], { env: program.env });
  } else {
    await run(program.server, [...serverOptions(program, draft), '--initialize-insecure'], { env: program.env });
  }
  await rename(draft, data);
}

function serverOptions(program: Program, data: string): string[] {
  const asRoot = process.getuid?.() === 0 ? ['--user=root'] : [];
  return ['--no-defaults', ...program.layout, `--datadir=${data}`, ...asRoot];
}

async function findServer(say: Say): Promise<Program> {
  const server = (await findExecutable(SERVERS)) ?? (await findExecutable(SERVERS, SYSTEM_FOLDERS));
  if (server) return { server, layout: [], env: process.env };
  const remedies = [
    'One of these helps:',
    '  DATABASE_URL=mysql://user:password@host:3306/database',
    '  docker run --rm -p 3306:3306 -e MYSQL_ALLOW_EMPTY_PASSWORD=1 -e MYSQL_DATABASE=trellis mysql:8.4',
    '    and then DATABASE_URL=mysql://root@127.0.0.1:3306/trellis',
    '  sudo apt-get install mariadb-server',
    '  brew install mariadb',
  ].join('\n');
  const debian = (await findExecutable(['apt-get'])) && (await findExecutable(['dpkg-deb']));
  if (!debian) throw new Error(`no MySQL-compatible server found. ${remedies}`);
  try {
    return await unpacked(await cached(await cacheName(), (draft) => fetchPackages(draft, say)));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`no MySQL-compatible server found, and none could be fetched: ${reason}\n${remedies}`, { cause });
  }
}

/** The cache's name differs for each release of a distribution, because the packages need that release's libraries. */
async function cacheName(): Promise<string> {
  const release = await readFile('/etc/os-release', 'utf8').catch(() => '');
  const [id, version] = ['ID', 'VERSION_ID'].map(
    (key) => release.match(new RegExp(`^${key}="?([\\w.-]+)`, 'm'))?.[1] ?? 'any',
  );
  return `mariadb-${id}-${version}-${process.arch}`;
}

/** Downloads and unpacks Debian's packages and the libraries that the machine lacks, without root or installation. */
async function fetchPackages(folder: string, say: Say): Promise<void> {
  say('fetching MariaDB (8 MB) with apt-get, without installing it…');
  const apt = join(folder, 'apt');
  const archives = join(apt, 'cache/archives');
  await mkdir(join(apt, 'state/lists/partial'), { recursive: true });
  await mkdir(join(archives, 'partial'), { recursive: true });
  const show = process.stderr.isTTY;
  const settings = [`Dir::State=${apt}/state`, 'Dir::State::status=/var/lib/dpkg/status', `Dir::Cache=${apt}/cache`];
  const common = [...settings, 'Debug::NoLocking=1'].flatMap((setting) => ['-o', setting]).concat(show ? [] : ['-qq']);
  await run('apt-get', [...common, 'update'], { show });
  const packages = ['mariadb-server-core', 'mariadb-client-core'];
  await run('apt-get', [...common, 'install', '-y', '--no-install-recommends', '--download-only', ...packages], {
    show,
  });
  for (const file of await readdir(archives)) {
    if (file.endsWith('.deb')) await run('dpkg-deb', ['-x', join(archives, file), folder]);
  }
  await rm(apt, { recursive: true });
  const { server, env } = await unpacked(folder);
  await run(server, ['--no-defaults', '--version'], { env });
}

async function unpacked(folder: string): Promise<Program> {
  const usr = join(folder, 'usr');
  const libraries = (await readdir(join(usr, 'lib')))
    .filter((name) => name.includes('-linux-'))
    .map((name) => join(usr, 'lib', name));
  return {
    server: join(usr, 'sbin/mariadbd'),
    layout: [`--basedir=${usr}`, `--lc-messages-dir=${join(usr, 'share/mysql')}`],
    env: { ...process.env, LD_LIBRARY_PATH: libraries.join(':') },
  };
}
