import { existsSync } from 'node:fs';
import type { GenericSchema, InferOutput } from 'valibot';
import { readMySqlUrl } from './mysql-url.ts';
import { ConfigError, readConfig } from './variables.ts';

/**
 * Reads a Node program's configuration from the environment, and variables that are not set there from `.env` in the
 * working folder. Ends the process with one line on stderr that names the first variable that is missing or malformed.
 */
export function fromEnvironment<S extends GenericSchema>(schema: S): InferOutput<S> {
  return readOrExit((env) => readConfig(schema, env));
}

/** Calls `read` with the environment, `.env` included; ends the process with the message of the ConfigError that it throws. */
export function readOrExit<T>(read: (env: NodeJS.ProcessEnv) => T): T {
  if (existsSync('.env')) process.loadEnvFile('.env');
  try {
    const config = read(process.env);
    for (const [name, value] of Object.entries(config as object))
      if (typeof value === 'string' && value.startsWith('mysql:')) readMySqlUrl(value, name);
    return config;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}
