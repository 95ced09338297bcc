/** A Vitess cluster in one process: two shards for the orders, and an unsharded keyspace for what they share. */
import { chmod, cp, glob, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT } from '@trellis/local/stack/folder';
import { freePort, HOST } from '@trellis/local/stack/ports';
import { type Service, startProcess } from '@trellis/local/stack/processes';
import { run } from '@trellis/local/stack/programs';
import { goPrograms } from './go-programs.ts';
import { answers, debianMySql, installationOf, installedMySql, query } from './mysql.ts';

type Say = (line: string) => void;

export const VITESS = 'v0.24.4';
const MODULE = 'vitess.io/vitess';
const PROGRAMS = ['mysqlctl', 'vtcombo', 'vttestserver', 'vtctldclient'];
/** The keyspaces that `drizzle/vschema` describes, and one without shards. */
const KEYSPACES = { trellis: 2, trellis_global: 1, unsharded: 1 };
const VSCHEMA = join(ROOT, 'drizzle/vschema');
/** The folder of its only MySQL server. */
const TABLET = 'vt_0000000001';
/** Ports that the cluster takes from its first one on. */
const PORTS = { grpc: 1, mysqld: 2, vtgate: 3 };

/** What a cluster of servers has that its default settings for tests of a single connection lack. */
const VTCOMBO_OPTIONS = [
  ...['--queryserver-config-pool-size', '50', '--queryserver-config-transaction-cap', '100'],
  // As deployed clusters do: databases are not created by SQL.
  ...['--dbddl-plugin', 'fail'],
];

export interface Vitess {
  /** Of the keyspace with two shards, and of the one without. */
  sharded: string;
  unsharded: string;
  mysqlVersion: string;
  /** Stops MySQL, and starts it again with its data. */
  restartMySql(): Promise<void>;
}

/**
 * Starts a cluster, which logs to `<folder>/logs`, and applies `drizzle/vschema`. Its programs are those of VTROOT,
 * else they are built from source into the user's cache. Resolves once it answers. `atEnd` gets what stops MySQL and removes the data.
 */
export async function startVitess(
  folder: string,
  say: Say,
  atEnd: (work: () => Promise<void>) => void,
): Promise<Vitess> {
  const mysql = (await installedMySql()) ?? (await debianMySql(say));
  const built =
    process.env.VTROOT ||
    (await goPrograms(
      'vitess',
      MODULE,
      VITESS,
      PROGRAMS.map((name) => `go/cmd/${name}`),
      say,
      ['config'],
    ));
  // A socket's path is limited to 107 characters, and a program that does not run as root must be able to enter the folder.
  const home = await mkdtemp(join(tmpdir(), 'trellis-vitess-'));
  await chmod(home, 0o711);
  const [root, data] = [join(home, 'root'), join(home, 'data')];
  await mkdir(join(root, 'bin'), { recursive: true });
  await mkdir(data);
  await chmod(data, 0o777);
  for (const name of PROGRAMS) await symlink(join(built, 'bin', name), join(root, 'bin', name));
  await rm(join(root, 'bin/vtcombo'));
  const vtcombo = `#!/bin/sh\nexec '${join(built, 'bin/vtcombo')}' "$@" ${VTCOMBO_OPTIONS.join(' ')}\n`;
  await writeFile(join(root, 'bin/vtcombo'), vtcombo, { mode: 0o755 });
  await cp(join(built, 'config'), join(root, 'config'), { recursive: true });
  // MySQL 9 no longer knows a setting of the templates.
  for await (const file of glob(join(root, 'config/mycnf/*.cnf'))) {
    await chmod(file, 0o644);
    await writeFile(file, (await readFile(file, 'utf8')).replace(/^innodb_log_file_size.*$/gm, ''));
  }
  const env = {
    ...process.env,
    HOME: home,
    VTROOT: root,
    VTDATAROOT: data,
    VT_MYSQL_ROOT: await installationOf(mysql, join(home, 'mysql')),
  };
  const port = await freePort();
  const url = (keyspace: string) => `mysql://root@${HOST}:${port + PORTS.vtgate}/${keyspace}`;
  const [command = '', ...args] = [
    ...unprivileged(),
    join(root, 'bin/vttestserver'),
    ...['--port', `${port}`, '--mysql-bind-host', HOST, '--data-dir', data],
    ...['--keyspaces', Object.keys(KEYSPACES).join(), '--num-shards', Object.values(KEYSPACES).join()],
    ...['--replica-count', '1', '--rdonly-count', '0', '--mysql-server-version', '8.4.6-Vitess'],
  ];
  // A process of its own: the cluster's end removes the file that names it, and may not end it.
  const mySqlPids = new Set<number>();
  const noteMySql = async () => {
    const pid = Number(await readFile(join(data, TABLET, 'mysql.pid'), 'utf8').catch(() => 0));
    if (pid > 0) mySqlPids.add(pid);
  };
  const stopMySql = async (signal: NodeJS.Signals) => {
    for (const pid of mySqlPids) while (!ended(pid, signal)) await sleep(100);
    mySqlPids.clear();
  };
  const startMySql = () => {
    const [program = '', ...options] = [...unprivileged(), join(root, 'bin/mysqlctl')];
    return run(program, [...options, '--tablet-uid', '1', '--mysql-port', `${port + PORTS.mysqld}`, 'start'], { env });
  };
  let cluster: Service | undefined;
  atEnd(async () => {
    await noteMySql();
    await cluster?.stop();
    // The cluster's end removes its data, without which it may never end by itself.
    await stopMySql('SIGKILL');
    await rm(home, { recursive: true, force: true });
  });
  cluster = await startProcess(folder, {
    name: 'vitess',
    command,
    args,
    env,
    readyWithin: 180_000,
    ready: (signal) => answers(url('trellis_global'), signal),
  });
  const control = (...args: string[]) =>
    run(join(root, 'bin/vtctldclient'), [
      '--server',
      `${HOST}:${port + PORTS.grpc}`,
      '--action-timeout',
      '60s',
      ...args,
    ]);
  for (const keyspace of ['trellis_global', 'trellis'])
    await control('ApplyVSchema', '--vschema-file', join(VSCHEMA, `${keyspace}.json`), keyspace);
  await control('ApplyRoutingRules', '--rules-file', join(VSCHEMA, 'routing-rules.json'));
  const statements = (await readFile(join(VSCHEMA, 'trellis_global.sql'), 'utf8')).split(/;\s*\n/);
  for (const statement of statements) if (statement.trim()) await query(url('trellis_global'), statement);
  return {
    sharded: url('trellis'),
    unsharded: url('unsharded'),
    mysqlVersion: mysql.version,
    async restartMySql() {
      await noteMySql();
      await stopMySql('SIGTERM');
      await startMySql();
      await noteMySql();
    },
  };
}

/** Sends a process the signal; true once it has ended. */
function ended(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return !process.kill(pid, signal);
  } catch {
    return true;
  }
}

/** The programs refuse to run as root: then they run as nobody, who may read and write root's files here. */
function unprivileged(): string[] {
  if (process.getuid?.() !== 0) return [];
  const rights = '+dac_override,+dac_read_search,+fowner';
  return [
    'setpriv',
    '--reuid=65534',
    '--regid=65534',
    '--clear-groups',
    `--inh-caps=${rights}`,
    `--ambient-caps=${rights}`,
  ];
}
