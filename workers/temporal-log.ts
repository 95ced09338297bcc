import { Runtime } from '@temporalio/worker';
import { createLogger } from '@trellis/contracts/config/logger';
import type { Logger } from 'pino';

/** The process's log, JSON lines on stdout, Temporal's own entries among them. Call it before anything else of Temporal. */
export function createWorkerLogger(level: string): Logger {
  const log = createLogger(level);
  const at =
    (name: 'trace' | 'debug' | 'info' | 'warn' | 'error') =>
    (message: string, meta: object = {}): void =>
      log[name](meta, message);
  const [trace, debug, info, warn, error] = [at('trace'), at('debug'), at('info'), at('warn'), at('error')];
  const named = { TRACE: trace, DEBUG: debug, INFO: info, WARN: warn, ERROR: error };
  Runtime.install({
    logger: { log: (name, message, meta) => named[name](message, meta), trace, debug, info, warn, error },
    // The process drains on its own terms.
    shutdownSignals: [],
  });
  return log;
}
