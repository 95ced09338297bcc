/** The documents agree with the repository: their commands, paths, links, figures in tables, and versions. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { restProcedures } from '@trellis/api/orders/router';
import { COMMAND_NAMES, COMMANDS } from '@trellis/contracts/commands';
import { PROGRAMS, Variables } from '@trellis/contracts/config/variables';
import { ERROR_CODES } from '@trellis/contracts/error';
import { OrderStatus } from '@trellis/contracts/order-status';
import { MAX_QUEUE_MS, POLICIES } from '@trellis/contracts/policy';
import { FAILURE_REASONS, STEPS } from '@trellis/contracts/states-and-steps';
import { describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

const CLIENT_README = 'api/client/README.md';
const DOCUMENTS = [
  ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', CLIENT_README, 'contracts/README.md'],
  ...globSync('docs/**/*.md', { cwd: ROOT }),
];

const manifest: { version: string; scripts: Record<string, string> } = JSON.parse(read('package.json'));

/** The contents of a document's fenced blocks of one language. */
const blocks = (document: string, language: string): string[] =>
  [...read(document).matchAll(/^( *)```(\w*)\n(.*?)^\1```$/gms)]
    .filter(([, , name]) => name === language)
    .map(([, , , text = '']) => text);

/** The rows of the tables below a heading, as cells. */
function rowsBelow(document: string, heading: string): string[][] {
  const [, after = ''] = read(document).split(`\n${heading}\n`);
  const [section = ''] = after.split(new RegExp(`^#{1,${heading.indexOf(' ')}} `, 'm'));
  const rows = [...section.matchAll(/^\| (.*) \|$/gm)].map(([, row = '']) =>
    row.split(' | ').map((cell) => cell.trim()),
  );
  return rows.filter(([first]) => first !== '---');
}

const unquoted = (cell = ''): string => cell.replaceAll('`', '');

test('every `docker run` of a document and of an error message publishes its ports to this machine only', () => {
  const texts = [...DOCUMENTS, 'local/stack/database-server.ts'].map(read);
  const commands = texts.flatMap((text) => [...text.matchAll(/docker run .*/g)].map(([command]) => command));
  expect(commands.length).toBeGreaterThan(1);
  const published = (command: string) => [...command.matchAll(/ (?:-p|--publish)[ =]?(\S+)/g)].map(([, port]) => port);
  for (const command of commands) {
    expect(command).not.toMatch(/ (-P|--publish-all|--net(work)?[ =]host)\b/);
    for (const port of published(command)) expect(port, command).toMatch(/^127\.0\.0\.1:/);
  }
});

test('README.md has at most 130 lines', () => {
  expect(read('README.md').trimEnd().split('\n').length).toBeLessThanOrEqual(130);
});

describe('every command in a document', () => {
  /** The commands of `sh` blocks that a test runs, the test's file, and a text in it that shows that it does. */
  const RUN_BY_TESTS = [
    { commands: ['npm start'], file: 'test/stack/launcher.test.ts', shows: "describe('npm start'" },
    {
      commands: [
        'npm pack --ignore-scripts=false -w @trellis/client',
        'npm install /path/to/trellis-client-VERSION.tgz',
      ],
      file: 'test/outside/outside-project.ts',
      shows: "'pack', '--ignore-scripts=false', '-w', '@trellis/client'",
    },
    {
      commands: blocks('README.md', 'sh').filter((block) => block.startsWith('. .local/env')),
      file: 'test/stack/docs.test.ts',
      shows: 'Ship an order',
    },
  ];
  const runByTests = RUN_BY_TESTS.flatMap(({ commands }) => commands.flatMap((text) => text.trim().split('\n')));
  const runByCi = [...read('.ci/run').matchAll(/npm (?:ci|test|run)\b[^\n&|\\]*/g)].map(([command]) =>
    command.replace(' -s ', ' ').trim(),
  );

  /** A test run of named files or a named project is part of `npm test`. */
  function isPartOfTests(command: string): boolean {
    const [, given] = /^npm test -- (.+)$/.exec(command) ?? [];
    if (given === undefined) return false;
    const [, project] = /^--project (\w+)$/.exec(given) ?? [];
    if (project !== undefined) return read('test/vitest.config.ts').includes(`name: '${project}'`);
    return given.split(' ').every((file) => file.endsWith('.test.ts') && existsSync(join(ROOT, 'test', file)));
  }

  const isRun = (command: string): boolean =>
    runByTests.includes(command) ||
    runByCi.includes(command) ||
    (/^npm (ci|test)$/.test(command) && runByCi.some((run) => run.startsWith(`${command} `))) ||
    isPartOfTests(command);

  test.each(DOCUMENTS)('of %s is run by a test or by .ci/run, or is marked `# by hand`', (document) => {
    const lines = blocks(document, 'sh').flatMap((block) => block.split('\n'));
    const unmarked = lines.filter((line) => line.trim() !== '' && !/ +# by hand(:|$)/.test(line));
    const commands = unmarked.filter((line) => !runByTests.includes(line)).flatMap(partsOf);
    expect(commands.filter((command) => !isRun(command))).toEqual([]);
  });

  test.each(RUN_BY_TESTS)('that is listed here as run by $file is run there', ({ commands, file, shows }) => {
    expect(commands).not.toEqual([]);
    expect(read(file)).toContain(shows);
  });

  test.each(DOCUMENTS)('of %s names an npm script and test files that exist', (document) => {
    const inline = [...read(document).matchAll(/`([^`\n]+)`/g)].map(([, text = '']) => text);
    const code = [...blocks(document, 'sh'), ...inline];
    const scripts = code.flatMap((text) =>
      [...text.matchAll(/\bnpm run (?:-s )?([\w:-]+)/g)].map(([, name = '']) => name),
    );
    expect(scripts.filter((name) => manifest.scripts[name] === undefined)).toEqual([]);
    expect(inline.filter((text) => text.startsWith('npm test -- ') && !isPartOfTests(text))).toEqual([]);
  });
});

/** The commands of a line without its comment. */
function partsOf(line: string): string[] {
  return line
    .replace(/\s+#.*$/, '')
    .split('&&')
    .map((part) => part.trim());
}

describe('every reference in a document', () => {
  /** Files that a recipe tells the reader to create. */
  const EXAMPLES = ['workers/activities/check-fraud.ts'];
  const FOLDERS = /^(contracts|drizzle|api|workers|local|test|docs|\.ci)\//;

  test.each(DOCUMENTS)('of %s to a path in the repository exists', (document) => {
    const quoted = [...read(document).matchAll(/`([^`\s]+)`/g)].map(([, text = '']) => text);
    const paths = quoted.filter(
      (text) => FOLDERS.test(text) && /^[\w./-]+$/.test(text) && !/\b(NAME|VERSION)\b/.test(text),
    );
    expect(paths.filter((path) => !EXAMPLES.includes(path) && !existsSync(join(ROOT, path)))).toEqual([]);
  });

  test.each(DOCUMENTS)('of %s by a link leads to a file and to a heading in it', (document) => {
    const targets = [...read(document).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
    const broken = targets.filter((target) => {
      // `dist` is built when a package is packed.
      if (/^https?:/.test(target) || target.includes('/dist/')) return false;
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? document : join(dirname(document), path);
      if (!existsSync(join(ROOT, file))) return true;
      return anchor !== undefined && !anchorsOf(file).includes(anchor);
    });
    expect(broken).toEqual([]);
  });
});

/** The anchors that GitHub gives the headings of a document. */
function anchorsOf(document: string): string[] {
  return [...read(document).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test('every time limit in docs/architecture.md is in the file that it names', () => {
  const MS = { ms: 1, s: 1_000, h: 3_600_000 };
  const rows = rowsBelow('docs/architecture.md', '## Time limits').filter(([first]) => first !== 'limit');
  const limits = rows.flatMap(([limit, value = '', file]) => {
    const [, count, unit] = /^(\d+) (ms|s|h)$/.exec(value) ?? [];
    return count === undefined
      ? []
      : [{ limit, file: unquoted(file), ms: Number(count) * MS[unit as keyof typeof MS] }];
  });
  expect(limits.length).toBeGreaterThan(40);
  const wrong = limits.filter(({ limit, file, ms }) => {
    const ofPolicy = policyLimit(limit);
    return ofPolicy === undefined ? !writingsOf(ms).test(read(file)) : ofPolicy !== ms;
  });
  expect(wrong).toEqual([]);
});

/** The number that a row such as "exercise: `review_ms`, …" is about; undefined for a row that names no policy. */
function policyLimit(limit = ''): unknown {
  const [, policy, key = ''] = /^(exercise|production): `(\w+)`/.exec(limit) ?? [];
  if (policy === undefined) return undefined;
  const name = policy as keyof typeof POLICIES;
  const numbers: Record<string, unknown> = { ...POLICIES[name], MAX_QUEUE_MS: MAX_QUEUE_MS[name] };
  return numbers[key] ?? `${policy} has no ${key}`;
}

/** How code writes a time: in milliseconds, as hours of them, or in seconds for Temporal and SQL. */
function writingsOf(ms: number): RegExp {
  const digits = `${ms}`.replace(/\B(?=(\d{3})+$)/g, '_');
  const seconds = ms / 1_000;
  const writings = [
    ...[digits, `${ms}`].map((number) => `(?<![\\d_])${number}(?![\\d_])`),
    `(?<!\\d)${ms / 3_600_000} \\* 3_600_000`,
    `'${seconds}s'`,
    `_timeout = ${seconds}(?!\\d)`,
  ];
  return new RegExp(writings.join('|'));
}

test('docs/operations.md gives every variable with the programs that read it', () => {
  const { gateway: _, ...programs } = PROGRAMS;
  const readers = (name: string) =>
    Object.entries(programs)
      .filter(([, { entries }]) => name in entries)
      .map(([program]) => program);
  const rows = rowsBelow('docs/operations.md', '## Variables').filter(([first]) => first !== 'variable');
  const documented = rows.map(([name, by = '']) => [unquoted(name), by.split(', ').sort()] as const);
  const actual = Object.keys(Variables).map((name) => [name, readers(name).sort()] as const);
  expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(actual));
});

test('docs/operations.md gives every variable’s default', () => {
  const rows = rowsBelow('docs/operations.md', '## Variables').filter(([first]) => first !== 'variable');
  const documented = rows.map(([name, , byDefault = '']) => [
    unquoted(name),
    byDefault.startsWith('none') ? undefined : unquoted(byDefault),
  ]);
  const actual = Object.entries(Variables).map(([name, schema]) => [
    name,
    'default' in schema ? schema.default : undefined,
  ]);
  expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(actual));
});

describe('docs/api.md gives', () => {
  const quoted = [...read('docs/api.md').matchAll(/`([^`\n]+)`/g)].map(([, text = '']) => text);
  const { order_id: _, ...statusFields } = OrderStatus.entries;

  test.each([
    ['error code', ERROR_CODES],
    ['failure reason', FAILURE_REASONS],
    ['step', STEPS],
    ['field of a status', Object.keys(statusFields)],
  ])('every %s', (_, names) => {
    expect(names.filter((name) => !quoted.includes(name))).toEqual([]);
  });

  test.each(restProcedures().map(({ name, meta }) => [name, meta.rest] as const))('the call %s', (name, rest) => {
    const route = `${rest.method} ${rest.path.replace(/:\w*id/, '{id}')}`;
    expect(quoted.filter((text) => text.split('?')[0] === route)).not.toEqual([]);
    expect(quoted).toContain(name);
    expect(read(CLIENT_README)).toContain(`\`${name.replace('orders.', '')}\``);
  });

  test.each(COMMAND_NAMES)('the Temporal name of %s', (name) => {
    const { temporal, argument } = COMMANDS[name];
    expect(quoted).toContain(`${temporal}(${argument ?? ''})`);
  });
});

test('docs/architecture.md says what every command is answered', () => {
  const [header] = rowsBelow('docs/architecture.md', '### What a command is answered');
  expect(header).toEqual(['the order', ...COMMAND_NAMES]);
});

test('the example of README.md is the client’s own', () => {
  const [example] = blocks('README.md', 'ts');
  expect(example).toBeDefined();
  expect(blocks(CLIENT_README, 'ts')).toContain(example);
});

test('CHANGELOG.md describes this version', () => {
  expect(read('CHANGELOG.md')).toContain(`\n## [${manifest.version}]`);
});
