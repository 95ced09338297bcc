import * as v from 'valibot';

/** Text of `least` to `most` characters, counted as JSON Schema and SQL count them: what JavaScript calls two halves is one. */
export const text = (least: number, most: number) =>
  v.pipe(
    v.string(),
    v.check((value) => value.isWellFormed(), 'has half a character'),
    v.check((value) => {
      const { length } = [...value];
      return least <= length && length <= most;
    }, `must have ${least} to ${most} characters`),
    v.metadata({ ...(least > 0 && { minLength: least }), maxLength: most }),
  );
