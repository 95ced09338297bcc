/** The command lines of the scripts: options with defaults, `--help`, and errors of one line with exit code 2. Also prints their output. */
import { Command, InvalidArgumentError } from '@commander-js/extra-typings';

export { Option } from '@commander-js/extra-typings';

/** An error whose message tells a user what to do. A script that it ends prints the message without a stack. */
export class ReportedError extends Error {
  override readonly name = 'ReportedError';
}

/** The options of a script, to be completed by `.option(…)` and read by `.parse().opts()`. `command` is how a person runs it, such as `npm run demo`. */
export function script(command: string, description: string) {
  process.once('uncaughtException', (error) => {
    if (!(error instanceof ReportedError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  });
  return new Command(`${command} --`)
    .description(description)
    .helpOption('--help', 'show this text')
    .configureHelp({ helpWidth: 120 })
    .configureOutput({
      outputError(text, write) {
        const message = text
          .trim()
          .replace(/^error: /, '')
          .replaceAll('\n', ' ');
        write(`${message} (${command} -- --help lists the options)\n`);
      },
    })
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2));
}

/** Prints a line on stdout. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** A whole number from 1 up. */
export const count = numeric((value) => Number.isInteger(value) && value >= 1, 'a whole number, at least 1');
/** A whole number from 0 up. */
export const whole = numeric((value) => Number.isInteger(value) && value >= 0, 'a whole number, at least 0');
export const integer = numeric(Number.isInteger, 'a whole number');
export const positive = numeric((value) => value > 0, 'a number greater than 0');
export const milliseconds = numeric((value) => value >= 0, 'milliseconds, at least 0');
export const fraction = numeric((value) => value >= 0 && value <= 1, 'a number from 0 to 1');
/** Whole numbers from 1 up, separated by commas. */
export const counts = (text: string): number[] => text.split(',').map(count);

/** A parser of an option's text; the message of its error is printed after the option's name. */
function numeric(valid: (value: number) => boolean, rule: string) {
  return (text: string): number => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (!Number.isFinite(value) || !valid(value)) throw new InvalidArgumentError(`It must be ${rule}.`);
    return value;
  };
}
