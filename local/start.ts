/** `npm start [-- --edge]`: the stack on this machine until Ctrl-C, its data in `.local/`; with `--edge` the API on the edge runtime beside the one on Node. */
import { parseArgs } from 'node:util';
import { holdLock, releaseLock } from './stack/processes.ts';
import { LOCAL, startStack } from './stack/stack.ts';

const { values } = parseArgs({ options: { edge: { type: 'boolean', default: false } } });
const say = (line: string) => process.stdout.write(`${line}\n`);

if (!(await holdLock(LOCAL, 'start'))) {
  say('Trellis Orders already runs from this folder; its addresses are in .local/env');
  process.exit(1);
}

const interrupted = new Promise<NodeJS.Signals>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, resolve);
});

try {
  const stack = await startStack({ folder: LOCAL, persistent: true, edge: values.edge, say });
  for (const [name, address] of Object.entries(stack.addresses)) say(`${name.padEnd(21)} ${address}`);
  say('Trellis Orders is up. The addresses are in .local/env, the logs in .local/logs. Ctrl-C stops it.');
  let stopping = false;
  for (const service of stack.services)
    service.exited.then(() => {
      if (!stopping)
        say(`${service.name} has stopped by itself; the end of its log may tell why: .local/logs/${service.name}.log`);
    });
  await interrupted;
  stopping = true;
  say('stopping…');
  await stack.stop();
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
} finally {
  await releaseLock(LOCAL, 'start');
}
process.exit();
