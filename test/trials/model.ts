/** `npm run model -- --runs N [--seed S --path P --replay R]`: the model's test, for as long as it takes; `seed`, `path` and `replayPath` of a counterexample bring it back as S, P and R. */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import * as v from 'valibot';
import { startVitest } from 'vitest/node';

const { values } = parseArgs({
  options: { runs: { type: 'string' }, seed: { type: 'string' }, path: { type: 'string' }, replay: { type: 'string' } },
});
const Whole = v.pipe(v.string(), v.transform(Number), v.integer());
const model = v.parse(
  v.object({
    runs: v.optional(v.pipe(Whole, v.minValue(1)), '1000'),
    seed: v.optional(Whole),
    path: v.optional(v.string()),
    replay: v.optional(v.string()),
  }),
  values,
);
await startVitest('test', ['stack/model.test.ts'], {
  root: fileURLToPath(new URL('..', import.meta.url)),
  watch: false,
  provide: { model },
});
