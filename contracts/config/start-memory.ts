/** For programs on Node: the memory that a start leaves behind. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Gives back what starting took; call it once, before the program serves. V8 lets its young generation grow to its full size while a
 * program loads, and keeps it until it next collects when little happens, which may be hours in a program at rest. Takes some 50 ms.
 */
export function giveBackStartMemory(): void {
  setFlagsFromString('--expose-gc');
  const collect: (options: object) => void = runInNewContext('gc');
  setFlagsFromString('--no-expose-gc');
  // As V8 does before it runs out of memory: the only collection that makes the young generation small whatever happened just before.
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
