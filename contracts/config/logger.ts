import pino, { type Logger } from 'pino';

/** A logger of JSON lines on stdout, with the time as ISO 8601. `level`: a value of `LOG_LEVEL`. */
export function createLogger(level: string): Logger {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime });
}
