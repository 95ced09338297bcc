/** `npm run engines`: the product on the servers that people really run it on, restarted meanwhile, and a report. */
import { setTimeout as sleep } from 'node:timers/promises';
import { migrate } from '@trellis/drizzle/migrate';
import { moneyViolations } from '@trellis/local/audit';
import { print, script } from '@trellis/local/options';
import { emptyDatabase } from '@trellis/local/stack/database-server';
import { throwAwayFolder } from '@trellis/local/stack/folder';
import { freePort } from '@trellis/local/stack/ports';
import { reap } from '@trellis/local/stack/processes';
import {
  attacks,
  callsMade,
  principalsOfShipped,
  refusedNothing,
  unlistedCalls,
  unlistedWorker,
} from './engines/access.ts';
import { fillBooks } from './engines/fill-books.ts';
import {
  debianMySql,
  hasContainers,
  installedMySql,
  type MySqlOptions,
  query,
  startMySql,
  startMySqlContainer,
  Unavailable,
} from './engines/mysql.ts';
import { openReport, type Report } from './engines/report.ts';
import { shipThrough } from './engines/secured.ts';
import { liveOnOneShard, raceForPayments } from './engines/shards.ts';
import {
  buildServerWithAccess,
  serverWithAccess,
  startCluster,
  startWithCertificates,
  startWithTokens,
  stockServer,
  TEMPORAL,
} from './engines/temporal.ts';
import { startVitess, VITESS } from './engines/vitess.ts';

const STORE_TESTS = ['stack/stores.test.ts', 'stack/audit.test.ts'];
/** The limits of every input, through the whole life of an order. */
const LIFE_TESTS = 'stack/limits.test.ts';
const OTHER_TESTS = [
  ...['stack/admission.test.ts', 'stack/status.test.ts', 'stack/outage.test.ts', 'stack/workflow.test.ts'],
  // The contract suite: every call, over every way to run the API.
  'stack/api.test.ts',
];
/** What of the tests depends on Temporal. */
const TEMPORAL_TESTS = [
  ...['stack/temporal-port.test.ts', 'stack/status.test.ts', 'stack/outage.test.ts', 'stack/arguments.test.ts'],
  ...[LIFE_TESTS, 'stack/api.test.ts'],
];
/** Tests whose preparations Vitess does not carry out, or which expect MySQL's own words. */
const NOT_ON_VITESS = [
  ...['killed', 'locked row', 'locked table', 'writes all or nothing'],
  // Over shards rows come in no order, and here any password is right.
  ...['both drivers return equal rows', 'names DATABASE_URL and the server'],
  // They lock two orders in one transaction, which the product never does: no server sees a deadlock between shards.
  'of a deadlock',
  // They need databases of their own.
  ...['prints what it applied', 'creates the sandbox’s tables only', 'concurrently on an empty database'],
];
const NODE_AWAY_MS = 15_000;
/** A server as an administrator may have set it up. */
const ODD_SETTINGS = [
  '--sql-mode=ANSI,NO_BACKSLASH_ESCAPES',
  '--character-set-server=latin1',
  '--transaction-isolation=READ-COMMITTED',
  '--default-time-zone=-05:00',
];
/** Each role of a node of Temporal may open 20 connections to each of its two databases. */
const ROOM_FOR_TEMPORAL = ['--max-connections=500'];
/** When the servers are restarted: the orders of the program that runs meanwhile are under way then. */
const RESTART_AFTER_MS = 25_000;

const ENGINES = ['mysql', 'temporal', 'vitess'] as const;
type Engine = (typeof ENGINES)[number];

const cli = script(
  'npm run engines',
  'Run the product on real servers, restart them meanwhile, and report what passed.',
)
  .argument('<engine>', ENGINES.join(', '))
  .option(
    '--short',
    'of mysql: only the migrations, the store tests, the demo and the audit; of temporal: only who may call what',
  )
  .option('--if-available', 'succeed, with a line, where the engine cannot be had')
  .parse();
const [engine] = cli.processedArgs;
const { short = false, ifAvailable = false } = cli.opts();

const { folder, remove, keep } = await throwAwayFolder(print);
/** What ends besides the processes of the folder. */
const cleanUp: (() => Promise<void>)[] = [];
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => void end().finally(() => process.exit(130)));
const passed = await tryEngine().catch((error: unknown) => {
  const reason = error instanceof Error ? error.message : String(error);
  const spared = ifAvailable && error instanceof Unavailable;
  print(spared ? `${engine}: not run: ${reason}` : reason);
  return spared;
});
await end();
if (passed) await remove();
else print(`logs and data are kept in ${await keep()}`);
process.exit(passed ? 0 : 1);

async function end(): Promise<void> {
  for (const work of cleanUp.splice(0)) await work();
  await reap(folder);
}

async function tryEngine(): Promise<boolean> {
  const trials: Record<Engine, () => Promise<boolean>> = {
    mysql: tryMySql,
    temporal: tryTemporal,
    vitess: tryVitess,
  };
  const trial = Object.entries(trials).find(([name]) => name === engine)?.[1];
  if (!trial) throw new Error(`${engine} is none of ${ENGINES.join(', ')}`);
  return trial();
}

async function tryMySql(): Promise<boolean> {
  const server = await mySqlServer();
  await query(server.url, 'CREATE DATABASE IF NOT EXISTS trellis');
  const url = `${server.url}/trellis`;
  const report = openReport(folder, { DATABASE_URL: url, TZ: 'America/New_York' });
  await migrations(report);
  const more = ['stack/accounts.test.ts', 'stack/migrate.test.ts', LIFE_TESTS];
  await report.tests('stores, accounts, migrations, limits', [...STORE_TESTS, ...more]);
  if (!short) {
    const odd = await server.another(ODD_SETTINGS);
    await query(odd.url, 'CREATE DATABASE trellis');
    await report.tests(`store tests with ${ODD_SETTINGS.join(' ').replaceAll('--', '')}`, STORE_TESTS, {
      env: { DATABASE_URL: `${odd.url}/trellis` },
    });
    await odd.stop();
    await report.tests('character sets, connections, admission, status, outages, workflows, contract suite', [
      ...['stack/charsets.test.ts', 'stack/connections.test.ts'],
      ...OTHER_TESTS,
    ]);
  }
  await report.program('demo of a user who may not create databases', 'local/demo.ts', [], {
    env: { DATABASE_URL: await limitedUser(url) },
  });
  if (!short) {
    await report.program(
      '200 orders under flaky_call, SQL restarted',
      'test/trials/ship-rate.ts',
      ['--orders', '200'],
      {
        meanwhile: () => restarted('SQL', server.restart),
      },
    );
    await report.program('races', 'test/trials/races.ts', ['--orders', '5']);
  }
  await audited(report, url);
  const [row] = await query(url, 'SELECT VERSION() AS version');
  return report.close(`MySQL ${row?.version}, stock settings, clients and server in New York`);
}

/** The first that can be had of an installed program, a container and Debian's packages. */
async function mySqlServer(settings: string[] = []) {
  const options: MySqlOptions = { folder, port: await freePort(), settings };
  const program = (await installedMySql()) ?? ((await hasContainers()) ? undefined : await debianMySql(print));
  const start = (more: MySqlOptions) => (program ? startMySql(program, more) : startMySqlContainer(more));
  let running = await start(options);
  return {
    url: running.url,
    async restart() {
      await running.stop();
      running = await start(options);
    },
    another: async (odd: string[]) => start({ folder, port: await freePort(), name: 'odd', settings: odd }),
  };
}

async function tryTemporal(): Promise<boolean> {
  const sql = await mySqlServer(ROOM_FOR_TEMPORAL);
  await query(sql.url, 'CREATE DATABASE trellis');
  const url = `${sql.url}/trellis`;
  const [row] = await query(url, 'SELECT VERSION() AS version');
  if (short) {
    const report = openReport(folder, {});
    await whoMayCallWhat(report, sql.url);
    return report.close(`Temporal ${TEMPORAL}, nodes of all roles in memory, the product on MySQL ${row?.version}`);
  }
  const [first, second] = await startCluster(folder, sql.url, print);
  const report = openReport(folder, {
    DATABASE_URL: url,
    TEMPORAL_ADDRESS: first.address,
    TEMPORAL_HTTP_URL: `http://${first.http}`,
  });
  const shipRate = (what: string, meanwhile?: () => Promise<string>) =>
    report.program(`200 orders under flaky_call${what}`, 'test/trials/ship-rate.ts', ['--orders', '200'], {
      ...(meanwhile && { meanwhile }),
    });
  await report.tests('ports, arguments, limits, status, outages, contract suite', TEMPORAL_TESTS);
  await report.program('demo', 'local/demo.ts');
  await shipRate('');
  await shipRate(', a node killed', () =>
    restarted('node 2', async () => {
      process.kill(second.service.pid, 'SIGKILL');
      await second.service.exited;
      await sleep(NODE_AWAY_MS);
      await second.startAgain();
    }),
  );
  await shipRate(', SQL restarted', () => restarted('SQL of Temporal and of the product', sql.restart));
  await report.program('races', 'test/trials/races.ts', ['--orders', '5']);
  await whoMayCallWhat(report, sql.url);
  return report.close(`Temporal ${TEMPORAL}, two nodes of all roles on MySQL ${row?.version}`);
}

/** Servers that demand proof of who calls: Temporal's own program, and ours with an allow-list. */
async function whoMayCallWhat(report: Report, sqlUrl: string): Promise<void> {
  await query(sqlUrl, 'CREATE DATABASE secured');
  const database = `${sqlUrl}/secured`;
  await migrate(database);
  const ways = [
    ['client certificates', startWithCertificates],
    ['JSON web tokens', startWithTokens],
  ] as const;
  for (const [proof, start] of ways)
    await report.check(`worker and API with ${proof}`, async () => {
      const secured = await start(folder, await stockServer(print));
      const figures = await shipThrough(secured, { folder, database, say: print });
      await secured.node.service.stop();
      return figures;
    });
  const isBuilt = await report.check('tests and build of the allow-list', async () => {
    await buildServerWithAccess(folder);
    return '';
  });
  if (!isBuilt) return;
  const servers: string[] = [];
  for (const [proof, start] of ways) {
    const secured = await start(folder, serverWithAccess(folder));
    servers.push(secured.node.service.name);
    const version = proof === 'client certificates' ? { buildId: '1' } : {};
    await report.check(`allow-list with ${proof}`, async () => {
      const figures = await shipThrough(secured, { folder, database, say: print, ...version });
      await refusedNothing(folder, secured);
      return figures;
    });
    await report.check(`allow-list with ${proof}: a worker that is not listed`, () =>
      unlistedWorker(secured, folder, database),
    );
    await report.check(`allow-list with ${proof}: who wrote what`, () => principalsOfShipped(secured));
    await report.check(`allow-list with ${proof}: each call that is not listed`, () => unlistedCalls(secured));
    await report.check(`allow-list with ${proof}: attacks`, () => attacks(secured));
    await secured.node.service.stop();
  }
  await report.check('calls that were made', () => callsMade(folder, servers));
}

async function tryVitess(): Promise<boolean> {
  const vitess = await startVitess(folder, print, (work) => cleanUp.push(work));
  const { sharded: url, unsharded } = vitess;
  const report = openReport(folder, { DATABASE_URL: url });
  await migrations(report);
  await report.check('20 races of two shards for a payment id', () => raceForPayments(url, 20));
  await report.check('transactions on one shard', () => liveOnOneShard(url, 10));
  await emptyDatabase(url);
  const only = `^(?!.*(${NOT_ON_VITESS.join('|')}))`;
  await report.tests('store tests', STORE_TESTS, { only });
  report.notRun('store tests that Vitess can’t run', NOT_ON_VITESS.join('; '));
  await report.tests('limits, admission, status, outages, workflows, contract suite', [LIFE_TESTS, ...OTHER_TESTS]);
  await report.program('demo', 'local/demo.ts');
  await report.program('200 orders under flaky_call, SQL restarted', 'test/trials/ship-rate.ts', ['--orders', '200'], {
    meanwhile: () => restarted('SQL', vitess.restartMySql),
  });
  await report.program('races', 'test/trials/races.ts', ['--orders', '5']);
  await audited(report, url);
  await report.tests('store tests without shards', STORE_TESTS, { env: { DATABASE_URL: unsharded }, only });
  await report.program('demo without shards', 'local/demo.ts', [], { env: { DATABASE_URL: unsharded } });
  return report.close(`Vitess ${VITESS} on MySQL ${vitess.mysqlVersion}, a keyspace of two shards and one without`);
}

/** Restarts a server while orders are under way. */
async function restarted(what: string, restart: () => Promise<unknown>): Promise<string> {
  await sleep(RESTART_AFTER_MS);
  const began = performance.now();
  await restart();
  return `${what} was away for ${((performance.now() - began) / 1000).toFixed(1)} s`;
}

async function migrations(report: Report): Promise<void> {
  await report.program('migrate', 'drizzle/migrate.ts');
  await report.program('migrate, a second time', 'drizzle/migrate.ts');
}

/** The URL of an empty database beside that of `url`, for a user who has every right in it and none elsewhere. */
async function limitedUser(url: string): Promise<string> {
  await query(url, 'CREATE DATABASE limited');
  await query(url, "CREATE USER limited@'%' IDENTIFIED BY 'secret'");
  await query(url, "GRANT ALL ON limited.* TO limited@'%'");
  return Object.assign(new URL(url), { username: 'limited', password: 'secret', pathname: '/limited' }).href;
}

/** The audit's program over many orders of every end, then with one of them broken. */
async function audited(report: Report, url: string): Promise<void> {
  const orders = short ? 2_000 : 100_000;
  await report.check(`${orders.toLocaleString('en')} orders of every end`, () => fillBooks(url, orders));
  await report.program('audit of them', 'drizzle/sandbox/audit.ts');
  await report.check('audit with one parcel too many', async () => {
    const [lost] = await query(url, "SELECT id FROM orders WHERE state = 'canceled' AND id LIKE 'filled-%' LIMIT 1");
    await query(url, `INSERT INTO sandbox_parcels (order_id, status) VALUES ('${lost?.id}', 'taken')`);
    const found = await moneyViolations(url);
    const expected = [`${lost?.id}: ended without shipping, but the carrier has a parcel`];
    if (found.join() !== expected.join()) throw new Error(found.join('\n') || 'nothing was found');
    return found.join();
  });
}
