import * as v from 'valibot';

/** Well-formed text of `least` to `most` characters, counted in code points as JSON Schema and SQL count them, not in UTF-16 units. */
export const text = (least: number, most: number) =>
  v.pipe(
    v.string(),
    v.check((value) => value.isWellFormed(), 'must be well-formed Unicode (lone surrogate)'),
    v.check((value) => {
      const { length } = [...value];
      return least <= length && length <= most;
    }, `must have ${least} to ${most} characters`),
    v.metadata({ ...(least > 0 && { minLength: least }), maxLength: most }),
  );
