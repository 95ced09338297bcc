/**
 * A map whose entries expire `lifetimeMs` milliseconds after they were set. Expired entries are dropped on each access, so it stays small;
 * beyond `most` entries the oldest is dropped too.
 */
export function createExpiringMap<T>(lifetimeMs: number, most = Number.POSITIVE_INFINITY) {
  /** Oldest first. */
  const entries = new Map<string, { value: T; setAt: number }>();

  function dropOld(): void {
    const now = performance.now();
    for (const [key, { setAt }] of entries) {
      if (now - setAt < lifetimeMs && entries.size <= most) break;
      entries.delete(key);
    }
  }

  return {
    get(key: string): T | undefined {
      dropOld();
      return entries.get(key)?.value;
    },
    set(key: string, value: T): void {
      entries.delete(key);
      entries.set(key, { value, setAt: performance.now() });
      dropOld();
    },
    delete: (key: string) => entries.delete(key),
  };
}
