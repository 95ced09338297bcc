/** `npm run model`: runs the model test with a chosen number of sequences. */
import { fileURLToPath } from 'node:url';
import { count, integer, script } from '@trellis/local/options';
import { startVitest } from 'vitest/node';

const model = script(
  'npm run model',
  'Run random sequences of commands against orders, and check them against a model. A counterexample prints the values that repeat it, ENCRYPT too.',
)
  .option('--runs <count>', 'sequences to run', count, 1000)
  .option('--seed <number>', 'seed of a counterexample', integer)
  .option('--path <path>', 'path of a counterexample')
  .option('--replay <path>', 'replayPath of a counterexample')
  .parse()
  .opts();

await startVitest('test', ['stack/model.test.ts'], {
  root: fileURLToPath(new URL('..', import.meta.url)),
  watch: false,
  provide: { model },
});
