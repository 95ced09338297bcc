/** The preload that limits the calls into workflows from the main thread. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const PRELOAD = fileURLToPath(new URL('../../workers/one-watchdog.ts', import.meta.url));

/** Runs code in a thread of a process with the preload. `call(code)` runs code as the SDK runs that of a workflow, for a second at most. */
function inThread(code: string) {
  const call = `
    import { createContext, Script } from 'node:vm';
    const call = (code) => new Script(code).runInContext(createContext({}), { timeout: 1_000, displayErrors: true });`;
  const thread = `data:text/javascript,${encodeURIComponent(call + code)}`;
  const main = `new (require('node:worker_threads').Worker)(new URL(${JSON.stringify(thread)}));`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', PRELOAD, '--eval', main], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  return { status, stdout, stderr };
}

test('a call that does not return ends the process', () => {
  expect(inThread("call('while (true);')")).toEqual({
    status: 1,
    stdout: '',
    stderr: 'a workflow has not returned in time: the worker ends\n',
  });
});

test('calls that return or throw in time end nothing, also when they take longer together', () => {
  const code = `
    const end = Date.now() + 3_500;
    while (Date.now() < end) {
      call('let n = 0; while (n < 1e6) n += 1;');
      try { call('throw new Error()'); } catch {}
    }
    console.log(call('6 * 7'));`;
  expect(inThread(code)).toEqual({ status: 0, stdout: '42\n', stderr: '' });
});

test('a thread that has returned from its calls may take any time outside of them', () => {
  const code = "call('1'); const end = Date.now() + 3_500; while (Date.now() < end); console.log('done');";
  expect(inThread(code)).toEqual({ status: 0, stdout: 'done\n', stderr: '' });
});
