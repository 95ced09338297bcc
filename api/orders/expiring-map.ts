/** A map whose entries expire `lifetimeMs` milliseconds after they were set. Expired entries are dropped on each access, so it stays small. */
export function createExpiringMap<T>(lifetimeMs: number) {
  /** Oldest first. */
  const entries = new Map<string, { value: T; setAt: number }>();

  function dropExpired(): void {
    const now = performance.now();
    for (const [key, { setAt }] of entries) {
      if (now - setAt < lifetimeMs) break;
      entries.delete(key);
    }
  }

  return {
    get(key: string): T | undefined {
      dropExpired();
      return entries.get(key)?.value;
    },
    set(key: string, value: T): void {
      dropExpired();
      entries.delete(key);
      entries.set(key, { value, setAt: performance.now() });
    },
    delete: (key: string) => entries.delete(key),
  };
}
