import pino, { type Logger } from 'pino';

/** For a log of many lines: written once so many bytes have gathered, or so many milliseconds have passed. */
const BUFFER = { minLength: 4_096, periodicFlush: 200 };

/** A logger of JSON lines on stdout, with the time as ISO 8601. `level`: a value of `LOG_LEVEL`. */
export function createLogger(level: string): Logger {
  return pino(optionsOf(level));
}

/** As `createLogger`, for many lines: they are written together, where most of their cost is. What is killed loses its last ones. */
export function createBufferedLogger(level: string): Logger {
  const destination = pino.destination({ sync: true, ...BUFFER });
  process.once('exit', () => destination.flushSync());
  return pino(optionsOf(level), destination);
}

const optionsOf = (level: string) => ({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime });
