import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { readMySqlUrl } from '@trellis/contracts/config/mysql-url';
import * as sandbox from '@trellis/drizzle/sandbox/schema';
import * as product from '@trellis/drizzle/schema';
import { getTableName, is } from 'drizzle-orm';
import { MySqlTable } from 'drizzle-orm/mysql-core';
import { createConnection } from 'mysql2/promise';
import pRetry from 'p-retry';
import { hasDebianPackages, unpackPackages } from './debian.ts';
import { PRIVATE_FILE } from './folder.ts';
import { type Service, startProcess } from './processes.ts';
import { cached, findExecutable, read, run } from './programs.ts';

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
 * once it answers queries at `url`, which holds the password of root: a random one for each folder. The server reads and
 * writes no files for its clients. `settings` are further options of the server, which win over those here. Throws an Error
 * with the remedies when no server is found.
 */
export async function startDatabase(options: {
  folder: string;
  port: number;
  say: Say;
  settings?: string[];
}): Promise<Service & { url: string }> {
  const { folder, port, say, settings = [] } = options;
  const data = resolve(folder, 'sql');
  const files = resolve(folder, 'sql-files');
  const program = await findServer(say);
  await mkdir(files, { recursive: true, mode: 0o700 });
  if (!existsSync(data)) await createData(program, data, files);
  const { password, initFile } = await rootPassword(folder);
  const url = `mysql://root:${password}@127.0.0.1:${port}`;
  const service = await startProcess(folder, {
    name: 'sql',
    command: program.server,
    args: [
      ...serverOptions(program, data, files),
      // Relative to the data folder: a socket's absolute path is limited to 107 characters.
      ...[
        '--socket=sql.sock',
        '--pid-file=sql.pid',
        '--bind-address=127.0.0.1',
        `--port=${port}`,
        '--loose-mysqlx=OFF',
        `--init-file=${initFile}`,
      ],
      ...['--character-set-server=utf8mb4', '--skip-log-bin', '--innodb-buffer-pool-size=64M', '--max-connections=500'],
      // The log is written at every commit and synced every second: commits survive a killed process, but not a power failure.
      '--innodb-flush-log-at-trx-commit=2',
      ...settings,
    ],
    env: program.env,
    ready: (signal) =>
      pRetry(async () => void (await execute(url, 'SELECT 1')), {
        retries: Number.POSITIVE_INFINITY,
        factor: 1,
        minTimeout: 50,
        signal,
      }),
  });
  return { ...service, url };
}

/** The database of a stack or of a test run. */
export interface PreparedDatabase {
  url: string;
  /** False when it is the one that DATABASE_URL names, because no other could be created there. */
  created: boolean;
  /** Removes what the run has left on a named server. */
  drop(): Promise<void>;
}

/**
 * The password of root in `<folder>/sql.password`, drawn when there is none, and a file of SQL that sets it at the server's
 * start, before the server accepts connections: also for data that an earlier version created without a password.
 */
async function rootPassword(folder: string): Promise<{ password: string; initFile: string }> {
  const [passwordFile, initFile] = ['sql.password', 'sql.init'].map((name) => resolve(folder, name)) as [
    string,
    string,
  ];
  const known = await readFile(passwordFile, 'utf8').catch(() => '');
  const password = known || randomBytes(16).toString('hex');
  if (!known) await writeFile(passwordFile, password, { mode: PRIVATE_FILE });
  // MariaDB creates an account of root for each of these names.
  const hosts = ['localhost', '127.0.0.1', '::1', hostname()];
  const statements = hosts.map((host) => `ALTER USER IF EXISTS 'root'@'${host}' IDENTIFIED BY '${password}';\n`);
  await writeFile(initFile, statements.join(''), { mode: PRIVATE_FILE });
  return { password, initFile };
}

/**
 * A database for a stack: the one that DATABASE_URL names, else one on the server that `startServer` starts. A stack that
 * is not persistent gets a new database, also on a named server. Where none can be created, since the user may not or
 * the server is Vitess, it gets the named one, which must hold no order: it is emptied at the end. Throws an Error that
 * names the variable and the server, without the password, when DATABASE_URL can't be used.
 */
export async function prepareDatabase(options: {
  persistent: boolean;
  startServer: () => Promise<{ url: string }>;
}): Promise<PreparedDatabase> {
  const { persistent, startServer } = options;
  const named = process.env.DATABASE_URL;
  if (named) await checkNamed(named);
  if (named && persistent) return { url: named, created: false, drop: async () => {} };
  const server = named || (await startServer()).url;
  const database = persistent ? 'trellis' : `trellis_${randomBytes(4).toString('hex')}`;
  try {
    await execute(server, `CREATE DATABASE IF NOT EXISTS ${database}`);
  } catch (error) {
    if (!named) throw error;
    await checkUnused(named, error);
    return { url: named, created: false, drop: () => emptyDatabase(named) };
  }
  const url = new URL(server);
  url.pathname = `/${database}`;
  return {
    url: url.href,
    created: true,
    async drop() {
      if (named) await execute(named, `DROP DATABASE ${database}`);
    },
  };
}

const TABLES = [...Object.values(product), ...Object.values(sandbox)].filter((table) => is(table, MySqlTable));

/** Deletes every row of the product and of the sandbox, and admits orders as a new database does. */
export async function emptyDatabase(url: string): Promise<void> {
  for (const table of TABLES) await execute(url, `DELETE FROM ${getTableName(table)}`);
  await execute(url, 'INSERT INTO capacity (id, orders_per_second) VALUES (1, 8)');
}

/** A missing table, on MySQL and MariaDB; on Vitess, whose other errors have this number too. */
const isMissingTable = ({ errno, message }: { errno?: number; message: string }): boolean =>
  errno === 1146 || (errno === 1105 && /table .*(not found|does not exist)/i.test(message));

/** Throws an Error unless the database of DATABASE_URL is known to have no order and no price list: rows of others are never deleted. */
async function checkUnused(url: string, reason: unknown): Promise<void> {
  for (const table of ['orders', 'prices']) {
    const rows = await execute(url, `SELECT 1 FROM ${table} LIMIT 1`).catch((error) => {
      if (isMissingTable(error)) return [];
      throw new Error(`DATABASE_URL: whether its database has ${table} is unknown: ${error.message}`, { cause: error });
    });
    if (rows.length === 0) continue;
    const why = reason instanceof Error ? reason.message : String(reason);
    throw new Error(`DATABASE_URL: its database has ${table}, and no other one can be created there: ${why}`);
  }
}

async function checkNamed(url: string): Promise<void> {
  if (!url.startsWith('mysql:'))
    throw new Error(
      'DATABASE_URL must start with mysql:// here: migrations and the gateway speak MySQL’s own protocol',
    );
  readMySqlUrl(url, 'DATABASE_URL', false);
  await execute(url, 'SELECT 1').catch((cause) => {
    const { host, pathname } = new URL(url);
    throw new Error(`DATABASE_URL: no connection to mysql://${host}${pathname}: ${cause.message || cause.code}`, {
      cause,
    });
  });
}

async function execute(url: string, statement: string): Promise<unknown[]> {
  const connection = await createConnection({ ...readMySqlUrl(url, 'DATABASE_URL', false), connectTimeout: 5_000 });
  const [rows] = await connection.query(statement).finally(() => connection.end());
  return Array.isArray(rows) ? rows : [];
}

/** Initialises a draft and renames it, so that an interrupted initialisation is never used as a database. */
async function createData(program: Program, data: string, files: string): Promise<void> {
  const draft = `${data}.draft`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(dirname(data), { recursive: true });
  const version = await read(program.server, ['--version'], program.env);
  if (version.includes('MariaDB')) {
    const besideServer = ['../bin', '../scripts'].map((folder) => join(dirname(program.server), folder));
    const name = ['mariadb-install-db'];
    const installer = (await findExecutable(name, besideServer)) ?? (await findExecutable(name));
    if (!installer) throw new Error(`mariadb-install-db, which belongs to ${program.server}, is missing`);
    const root = ['--auth-root-authentication-method=normal', '--skip-test-db'];
    await run(installer, [...serverOptions(program, draft, files), ...root], { env: program.env });
  } else {
    await run(program.server, [...serverOptions(program, draft, files), '--initialize-insecure'], { env: program.env });
  }
  await rename(draft, data);
}

/** `files`: the only folder in which statements may read and write files; it stays empty. */
function serverOptions(program: Program, data: string, files: string): string[] {
  const asRoot = process.getuid?.() === 0 ? ['--user=root'] : [];
  return ['--no-defaults', ...program.layout, `--datadir=${data}`, `--secure-file-priv=${files}`, ...asRoot];
}

async function findServer(say: Say): Promise<Program> {
  const server = (await findExecutable(SERVERS)) ?? (await findExecutable(SERVERS, SYSTEM_FOLDERS));
  if (server) return { server, layout: [], env: process.env };
  const remedies = [
    'One of these helps:',
    '  DATABASE_URL=mysql://user:password@host:3306/database',
    '  docker run --rm -p 127.0.0.1:3306:3306 -e MYSQL_ALLOW_EMPTY_PASSWORD=1 -e MYSQL_DATABASE=trellis mysql:8.4',
    '    and then DATABASE_URL=mysql://root@127.0.0.1:3306/trellis',
    '  sudo apt-get install mariadb-server',
    '  brew install mariadb',
  ].join('\n');
  if (!(await hasDebianPackages())) throw new Error(`no MySQL-compatible server found. ${remedies}`);
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

async function fetchPackages(folder: string, say: Say): Promise<void> {
  say('fetching MariaDB (8 MB) with apt-get, without installing it…');
  await unpackPackages(folder, ['mariadb-server-core', 'mariadb-client-core']);
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
