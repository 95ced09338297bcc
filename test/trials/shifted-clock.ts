/**
 * Preload of a program (`NODE_OPTIONS=--import=<this file>`) whose machine's clock is wrong: CLOCK_SHIFT_MS milliseconds
 * ahead, or behind if negative. With CLOCK_JUMP_AFTER_MS the clock is right at first, and is set wrong that long after.
 */
const Real = Date;
const shift = Number(process.env.CLOCK_SHIFT_MS);
const jumpsAt = performance.now() + Number(process.env.CLOCK_JUMP_AFTER_MS ?? 0);
const now = () => Real.now() + (performance.now() >= jumpsAt ? shift : 0);

globalThis.Date = new Proxy(Real, {
  construct: (target, given, type) => Reflect.construct(target, given.length === 0 ? [now()] : given, type),
  get: (target, key) => (key === 'now' ? now : Reflect.get(target, key)),
});
