/** What runs on an engine: the product's own programs and tests, each a row of the report. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { print } from '@trellis/local/options';
import { ROOT } from '@trellis/local/stack/folder';
import Table from 'cli-table3';

interface Row {
  what: string;
  result: 'passed' | 'failed' | 'not run';
  figures: string;
  seconds: number;
  /** The machine's load over the last minute when it ended. */
  load: number;
}

interface Run {
  /** On top of the report's environment. */
  env?: NodeJS.ProcessEnv;
  /** Happens while the program runs, such as a server's restart; its figures stand in the row too. */
  meanwhile?: () => Promise<string>;
}

export type Report = ReturnType<typeof openReport>;

const TESTS = join(ROOT, 'node_modules/vitest/vitest.mjs');
/** The lines of a program's output that are worth reporting. */
const FIGURES =
  /^(.* orders ended as the file says\.|The books agree.*|shipped within.*|(?:start|approve) → .*|outcomes .*|audit: .*|no guarantee was broken|up to date|applied .*|the books agree.*)$/gm;
/** What a program says of its own failure stands at the end of its output. */
const TAIL_LINES = 12;

/** Opens a report. Programs get `env`, which names the engine, and log to `<folder>/logs`. */
export function openReport(folder: string, env: NodeJS.ProcessEnv) {
  const rows: Row[] = [];

  /** Carries out `work`, which resolves with its figures; what it throws is a failure, and the trial goes on. */
  async function check(what: string, work: () => Promise<string>): Promise<boolean> {
    print(`${what}…`);
    const began = performance.now();
    const row = (result: Row['result'], figures: string) => {
      const seconds = Math.round((performance.now() - began) / 1000);
      rows.push({ what, result, figures, seconds, load: loadavg()[0] ?? 0 });
      print(`${what}: ${result} after ${seconds} s${figures === '' ? '' : `\n${figures.replace(/^/gm, '    ')}`}`);
      return result === 'passed';
    };
    try {
      return row('passed', await work());
    } catch (error) {
      return row('failed', error instanceof Error ? error.message : String(error));
    }
  }

  /** Runs a program of this repository to its end; exit code 0 is a pass. */
  function program(what: string, script: string, args: string[] = [], { env: more = {}, meanwhile }: Run = {}) {
    return check(what, async () => {
      const running = node(what, [join(ROOT, script), ...args], { ...env, ...more });
      const [ended, beside] = await Promise.allSettled([running, meanwhile?.()]);
      if (ended.status === 'rejected') throw ended.reason;
      const figures = (ended.value.match(FIGURES) ?? []).map((line) => line.replace(/ {2,}/g, ' '));
      if (beside.status === 'rejected') throw beside.reason;
      return [...(beside.value ? [beside.value] : []), ...figures].join('\n');
    });
  }

  /** Runs test files, of them only the tests that a pattern matches. */
  function tests(what: string, files: string[], { env: more = {}, only = '' }: Run & { only?: string } = {}) {
    return check(what, async () => {
      const results = join(folder, `${what.replace(/\W+/g, '-')}.json`);
      const reporting = ['--reporter=default', '--reporter=json', `--outputFile.json=${results}`];
      const chosen = only === '' ? [] : ['-t', only];
      const run = node(what, [TESTS, 'run', '--root', 'test', ...reporting, ...chosen, ...files], { ...env, ...more });
      const failure = await run.then(
        () => undefined,
        (error: Error) => error,
      );
      const figures = summary(await readFile(results, 'utf8').catch(() => ''));
      if (failure) throw new Error(figures ?? failure.message);
      return figures ?? 'no results';
    });
  }

  async function node(name: string, args: string[], variables: NodeJS.ProcessEnv): Promise<string> {
    await mkdir(join(folder, 'logs'), { recursive: true });
    const log = createWriteStream(join(folder, 'logs', `${name.replace(/\W+/g, '-')}.log`));
    const child = spawn(process.execPath, args, {
      cwd: ROOT,
      env: { ...process.env, NO_COLOR: '1', ...variables },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let printed = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => {
        printed += chunk;
        log.write(chunk);
      });
    const [code] = await once(child, 'close');
    log.end();
    if (code !== 0)
      throw new Error([`exit code ${code}:`, ...printed.trimEnd().split('\n').slice(-TAIL_LINES)].join('\n'));
    return printed;
  }

  return {
    check,
    program,
    tests,

    /** Records what can't be run on this engine, and why. */
    notRun(what: string, why: string): void {
      rows.push({ what, result: 'not run', figures: why, seconds: 0, load: loadavg()[0] ?? 0 });
    },

    /** Prints the table. Returns false when something failed. */
    close(engine: string): boolean {
      const table = new Table({
        head: ['what ran', 'result', 'figures', 's', 'load'],
        colWidths: [34, 9, 100, 6, 6],
        wordWrap: true,
        style: { head: [], border: [] },
      });
      for (const { what, result, figures, seconds, load } of rows)
        table.push([what, result, figures, seconds, load.toFixed(1)]);
      const failed = rows.filter(({ result }) => result === 'failed').length;
      print(
        `${engine}; Node ${process.versions.node}, ${cpus().length} cores, ${new Date().toISOString().slice(0, 10)}`,
      );
      print(table.toString());
      print(failed === 0 ? 'everything passed' : `${failed} of ${rows.length} failed`);
      return failed === 0 && rows.length > 0;
    },
  };
}

interface Results {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  testResults: {
    message: string;
    name: string;
    assertionResults: { status: string; fullName: string; failureMessages: string[] }[];
  }[];
}

/** The counts, and a line for each test that failed; undefined when there are no results. */
function summary(json: string): string | undefined {
  if (json === '') return undefined;
  const { numPassedTests, numFailedTests, numPendingTests, testResults } = JSON.parse(json) as Results;
  const failed = testResults.flatMap(({ name, message, assertionResults }) => [
    ...(assertionResults.length === 0 ? [`✗ ${name}: ${message}`] : []),
    ...assertionResults
      .filter(({ status }) => status === 'failed')
      .map(({ fullName, failureMessages: [why = ''] }) => `✗ ${fullName}: ${why.split('\n')[0]}`),
  ]);
  return [`${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped`, ...failed].join('\n');
}
