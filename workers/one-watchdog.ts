/**
 * A preload that makes a worker cheaper: `node --import ./dist/one-watchdog.js dist/worker.js`. The SDK limits the time of each call into a
 * workflow by Node's own option, for which Node starts and ends a thread in every call. With this preload the main thread looks once a
 * second for a call that has taken longer, and then ends the process with a line on stderr.
 */
import { Script } from 'node:vm';
import { getEnvironmentData, isMainThread, setEnvironmentData, threadId } from 'node:worker_threads';

const DEADLINES = 'deadlines of the calls into workflows';
/** More than a worker starts. */
const MAX_THREADS = 1_024;
const LOOK_EVERY_MS = 1_000;

/** Of a clock that all threads share, and that is never set. */
const seconds = (): number => process.hrtime()[0];

if (isMainThread) watch();
else noteDeadlines(getEnvironmentData(DEADLINES) as Int32Array);

/** Threads that are started later see what the others write. */
function watch(): void {
  const deadlines = new Int32Array(new SharedArrayBuffer(MAX_THREADS * Int32Array.BYTES_PER_ELEMENT));
  setEnvironmentData(DEADLINES, deadlines);
  setInterval(() => {
    const now = seconds();
    if (!deadlines.some((deadline) => deadline !== 0 && deadline < now)) return;
    process.stderr.write('a workflow has not returned in time: the worker ends\n');
    process.exit(1);
  }, LOOK_EVERY_MS).unref();
}

/** Writes down, in this thread's place, until when a call with a limit must have returned; 0 while there is none. */
function noteDeadlines(deadlines: Int32Array): void {
  const { runInContext } = Script.prototype;
  Script.prototype.runInContext = function (context, { timeout, ...options } = {}) {
    if (timeout === undefined) return runInContext.call(this, context, options);
    const before = deadlines[threadId] ?? 0;
    deadlines[threadId] = seconds() + Math.ceil(timeout / 1_000);
    try {
      return runInContext.call(this, context, options);
    } finally {
      deadlines[threadId] = before;
    }
  };
}
