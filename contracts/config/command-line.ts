import { parseArgs } from 'node:util';

/** The options of a program, by their names. `value`: what its text stands for, if it takes one. */
type Options = Record<string, { description: string; value?: string }>;
type Values<O extends Options> = { [Name in keyof O]?: O[Name] extends { value: string } ? string : boolean };

/**
 * Reads the command line of a program that is configured by environment variables, and returns the values of its `options`. `--help` prints
 * what the program does and ends the process; any other argument ends it with one line on stderr and exit code 2, before it does anything.
 * `command` is how a person runs it, such as `npm run api`. `argument`: what the program's one argument stands for, which then is required
 * and returned as `argument`; without it there is none, and '' is returned.
 */
export function readCommandLine<O extends Options>(
  command: string,
  description: string,
  options: O = {} as O,
  argument?: string,
): Values<O> & { argument: string } {
  const all: Options = { ...options, help: { description: 'show this text' } };
  try {
    const types = Object.entries(all).map(([name, { value }]) => [name, { type: value ? 'string' : 'boolean' }]);
    const allowPositionals = argument !== undefined;
    const given = parseArgs({ options: Object.fromEntries(types), allowPositionals });
    const values: Record<string, unknown> = given.values;
    if (!values.help) {
      if (allowPositionals && given.positionals.length !== 1)
        throw new Error(
          `${given.positionals.length > 1 ? 'too many arguments' : 'no argument'}: it takes one ${argument}`,
        );
      return { ...values, argument: given.positionals[0] ?? '' } as Values<O> & { argument: string };
    }
  } catch (error) {
    // The sentences after the first one are about arguments that a program takes.
    const [problem] = (error as Error).message.split('. ');
    process.stderr.write(`${problem} (${command} -- --help lists the options)\n`);
    process.exit(2);
  }
  const names = Object.entries(all).map(([name, { value }]) => `--${name}${value ? `=${value}` : ''}`);
  const width = Math.max(...names.map(({ length }) => length));
  const lines = Object.values(all).map(({ description }, at) => `  ${names[at]?.padEnd(width)}  ${description}\n`);
  process.stdout.write(
    `Usage: ${command} -- [options]${argument === undefined ? '' : ` ${argument}`}\n\n${description} Its environment variables: docs/operations.md\n\nOptions:\n${lines.join('')}`,
  );
  process.exit(0);
}
