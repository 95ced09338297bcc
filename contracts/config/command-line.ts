import { parseArgs } from 'node:util';

/**
 * Reads the command line of a program that is configured by environment variables alone. `--help` prints what the program does
 * and ends the process; any other argument ends it with one line on stderr and exit code 2, before it does anything.
 * `command` is how a person runs it, such as `npm run api`.
 */
export function readCommandLine(command: string, description: string): void {
  try {
    const { values } = parseArgs({ options: { help: { type: 'boolean' } } });
    if (!values.help) return;
  } catch (error) {
    // The sentences after the first one are about arguments that a program takes.
    const [problem] = (error as Error).message.split('. ');
    process.stderr.write(`${problem} (${command} -- --help lists the options)\n`);
    process.exit(2);
  }
  process.stdout.write(
    `Usage: ${command} -- [options]\n\n${description} Its environment variables: docs/operations.md\n\nOptions:\n  --help  show this text\n`,
  );
  process.exit(0);
}
