import { Runtime } from '@temporalio/worker';
import type { Logger } from 'pino';

/** Installs the process's Temporal Runtime, which then logs to `log`. Call it once, before any other use of @temporalio/worker. */
export function installTemporalRuntime(log: Logger): void {
  const at =
    (name: 'trace' | 'debug' | 'info' | 'warn' | 'error') =>
    (message: string, meta: object = {}): void =>
      log[name](meta, message);
  const [trace, debug, info, warn, error] = [at('trace'), at('debug'), at('info'), at('warn'), at('error')];
  const byLevel = { TRACE: trace, DEBUG: debug, INFO: info, WARN: warn, ERROR: error };
  Runtime.install({
    logger: { log: (level, message, meta) => byLevel[level](message, meta), trace, debug, info, warn, error },
    // main.ts handles the signals and shuts the workers down.
    shutdownSignals: [],
  });
}
