/** A real MySQL server: a program that is named or installed, a container, or Debian's packages without root. */
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hasDebianPackages, unpackPackages } from '@trellis/local/stack/debian';
import { HOST } from '@trellis/local/stack/ports';
import { type Service, startProcess } from '@trellis/local/stack/processes';
import { cached, findExecutable, read, run } from '@trellis/local/stack/programs';
import { createConnection } from 'mysql2/promise';
import pRetry from 'p-retry';

/** How to run mysqld: `command ...before <options> ...after`. */
export interface MySqlProgram {
  command: string;
  before: string[];
  /** Options that locate the files of a server that is unpacked rather than installed. */
  after: string[];
  version: string;
}

type Say = (line: string) => void;

const SYSTEM_FOLDERS = ['/usr/sbin', '/usr/local/sbin'];
const IMAGE = 'mysql:8.4.11@sha256:b3b90af2a6552ae30c266fdb7d5dd55f3afb72404bb78d37fe8a23eb857fd3fb';
/** Debian's releases have MariaDB only; its unstable suite has MySQL. */
const SUITE = 'sid';

/** The server can't be had on this machine. */
export class Unavailable extends Error {}

/** MYSQLD, else a `mysqld` that is MySQL's on PATH; undefined when there is none. */
export async function installedMySql(): Promise<MySqlProgram | undefined> {
  const named = process.env.MYSQLD;
  if (named) return program({ command: named, before: [], after: [] });
  const installed = (await findExecutable(['mysqld'])) ?? (await findExecutable(['mysqld'], SYSTEM_FOLDERS));
  if (!installed) return undefined;
  const found = await program({ command: installed, before: [], after: [] });
  return found.version.includes('MariaDB') ? undefined : found;
}

/** Debian's packages, unpacked into the user's cache. Throws an Unavailable when they can't be had. */
export async function debianMySql(say: Say): Promise<MySqlProgram> {
  if (!(await hasDebianPackages(SUITE)))
    throw new Unavailable('no MySQL server: set MYSQLD to the path of a mysqld, or use Debian, or a container engine');
  const folder = await cached(`mysql-${SUITE}-${process.arch}`, async (draft) => {
    say(`fetching MySQL (66 MB) of Debian ${SUITE}, without installing it…`);
    await unpackPackages(draft, ['mysql-server-core'], SUITE).catch((cause: Error) => {
      throw new Unavailable(`no MySQL server, and none could be fetched: ${cause.message}`, { cause });
    });
    await program(await unpacked(draft));
  });
  return program(await unpacked(folder));
}

async function program(how: Omit<MySqlProgram, 'version'>): Promise<MySqlProgram> {
  const printed = await read(how.command, [...how.before, '--no-defaults', '--version']);
  const [, version = printed.trim()] = /Ver (\S+)/.exec(printed) ?? [];
  return { ...how, version };
}

/** The packages are of another release, so they run on its own loader and libraries. */
async function unpacked(folder: string): Promise<Omit<MySqlProgram, 'version'>> {
  const usr = join(folder, 'usr');
  const find = async (place: string, name: RegExp) => {
    const found = (await readdir(place)).find((file) => name.test(file));
    if (found === undefined) throw new Error(`the packages have no ${place}/${name.source}`);
    return join(place, found);
  };
  const libraries = await find(join(usr, 'lib'), /-linux-gnu$/);
  const loader = await find(join(usr, 'lib64'), /^ld-linux/).catch(() => find(libraries, /^ld-linux/));
  return {
    command: loader,
    before: ['--library-path', `${libraries}:${join(usr, 'lib/mysql/private')}`, join(usr, 'sbin/mysqld')],
    after: [
      `--basedir=${usr}`,
      `--lc-messages-dir=${join(usr, 'share/mysql')}`,
      `--plugin-dir=${join(usr, 'lib/mysql/plugin')}`,
      // Its default is a folder that only an installation makes.
      '--secure-file-priv=NULL',
    ],
  };
}

/** Writes `<folder>/{bin,sbin}/mysqld` and their support files as an installation has them, for programs that expect one. */
export async function installationOf({ command, before, after }: MySqlProgram, folder: string): Promise<string> {
  const quoted = (words: string[]) => words.map((word) => `'${word}'`).join(' ');
  const script = `#!/bin/sh\nexec ${quoted([command, ...before])} "$@" ${quoted(after)}\n`;
  for (const name of ['bin', 'sbin']) {
    await mkdir(join(folder, name), { recursive: true });
    const file = join(folder, name, 'mysqld');
    await writeFile(file, script);
    await chmod(file, 0o755);
  }
  return folder;
}

export interface MySqlOptions {
  folder: string;
  port: number;
  /** Name of the service, its log and its data; one folder needs a different name for each. */
  name?: string;
  /** On top of the stock settings. */
  settings?: string[];
}

/**
 * Starts a MySQL server with its stock settings, in New York's time zone, on 127.0.0.1:port; its data is in
 * `<folder>/<name>`, created when absent. Resolves once it answers.
 */
export async function startMySql(found: MySqlProgram, options: MySqlOptions): Promise<Service & { url: string }> {
  const { folder, port, name = 'mysql', settings = [] } = options;
  const data = join(folder, name);
  const user = process.getuid?.() === 0 ? ['--user=root'] : [];
  const args = (place: string, more: string[]) => [
    ...found.before,
    ...['--no-defaults', `--datadir=${place}`, ...user, ...settings, ...more],
    ...found.after,
  ];
  if (!existsSync(data)) {
    const draft = `${data}.draft`;
    await rm(draft, { recursive: true, force: true });
    await mkdir(dirname(draft), { recursive: true });
    await run(found.command, args(draft, ['--initialize-insecure']));
    await rename(draft, data);
  }
  // Relative to the data folder: a socket's absolute path is limited to 107 characters.
  const place = ['--socket=sql.sock', '--pid-file=sql.pid', '--bind-address=127.0.0.1', `--port=${port}`];
  const service = await startProcess(folder, {
    name,
    command: found.command,
    args: args(data, [...place, '--mysqlx=OFF']),
    env: { ...process.env, TZ: 'America/New_York' },
    readyWithin: 60_000,
    ready: (signal) => answers(rootUrl(port), signal),
  });
  return { ...service, url: rootUrl(port) };
}

/** Whether a container engine answers. */
export async function hasContainers(): Promise<boolean> {
  return read('docker', ['info']).then(
    () => true,
    () => false,
  );
}

/** As `startMySql`, in a container. No container engine runs where this project is tested: it has never been tried. */
export async function startMySqlContainer(options: MySqlOptions): Promise<Service & { url: string }> {
  const { folder, port, name = 'mysql', settings = [] } = options;
  const data = join(folder, name);
  await mkdir(data, { recursive: true });
  const service = await startProcess(folder, {
    name,
    command: 'docker',
    args: [
      ...['run', '--rm', '--user', `${process.getuid?.()}:${process.getgid?.()}`, '-v', `${data}:/var/lib/mysql`],
      ...['-p', `127.0.0.1:${port}:3306`, '-e', 'TZ=America/New_York', '-e', 'MYSQL_ALLOW_EMPTY_PASSWORD=1'],
      ...['-e', 'MYSQL_ROOT_HOST=%', IMAGE, ...settings],
    ],
    readyWithin: 600_000,
    ready: (signal) => answers(rootUrl(port), signal),
  });
  return { ...service, url: rootUrl(port) };
}

const rootUrl = (port: number) => `mysql://root@${HOST}:${port}`;

/** Resolves once the server at `url` answers. */
export async function answers(url: string, signal: AbortSignal): Promise<void> {
  const retries = Number.POSITIVE_INFINITY;
  await pRetry(() => query(url, 'SELECT 1'), { retries, factor: 1, minTimeout: 100, signal });
}

/** Runs one statement on a connection of its own; resolves with its rows. */
export async function query(url: string, statement: string): Promise<Record<string, unknown>[]> {
  const connection = await createConnection({ uri: url, connectTimeout: 5_000 });
  const [rows] = await connection.query(statement).finally(() => connection.end());
  return Array.isArray(rows) ? (rows as Record<string, unknown>[]) : [];
}
