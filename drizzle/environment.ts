import { existsSync } from 'node:fs';
import { ConfigError, readConfig } from '@trellis/contracts/config';
import type { GenericSchema, InferOutput } from 'valibot';

/** The configuration of a Node entry point, kept here because all of them need it and contracts does no I/O: the environment, and behind it a file `.env` in the working folder. Ends the process with the one line that names what is missing or malformed. */
export function fromEnvironment<S extends GenericSchema>(schema: S): InferOutput<S> {
  if (existsSync('.env')) process.loadEnvFile('.env');
  try {
    return readConfig(schema, process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}
