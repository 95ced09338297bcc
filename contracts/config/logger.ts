import pino, { type Logger } from 'pino';

/** A process's log: JSON lines on stdout, with the time as ISO 8601. `level` is one of `LOG_LEVEL`'s. */
export function createLogger(level: string): Logger {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime });
}
