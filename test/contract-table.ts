/** A vitest reporter: prints the results of api.test.ts as a table with a row for each test and a column for each way to run the API. */
import Table from 'cli-table3';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

const SUITE = '/api.test.ts';
const MARKS = { passed: '✓', failed: '✗', skipped: '-', pending: '…' } as const;

export default class ContractTable implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const suite = modules.find(({ moduleId }) => moduleId.endsWith(SUITE));
    if (!suite) return;
    const lines = new Map<string, Record<string, string>>();
    for (const test of suite.children.allTests()) {
      const [api = '', ...path] = pathOf(test);
      const line = path.join(': ');
      lines.set(line, { ...lines.get(line), [api]: MARKS[test.result().state] });
    }
    const apis = [...new Set([...lines.values()].flatMap((marks) => Object.keys(marks)))];
    const table = new Table({
      head: ['the API', ...apis],
      colWidths: [70, ...apis.map(() => 14)],
      wordWrap: true,
      chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
      style: { head: [], border: [] },
    });
    for (const [line, marks] of lines) table.push([line, ...apis.map((api) => marks[api] ?? '')]);
    process.stdout.write(`${table.toString()}\n`);
  }
}

/** The names from the outermost suite to the test. */
function pathOf(test: TestCase): string[] {
  const path = [test.name];
  for (let at = test.parent; at.type === 'suite'; at = at.parent) path.unshift(at.name);
  return path;
}
