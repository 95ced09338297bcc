/** Forgets the entries that were put in more than so many milliseconds ago. They stand in a map oldest first. */
export function dropExpired(entries: Map<string, { at: number }>, milliseconds: number): void {
  const now = Date.now();
  for (const [key, { at }] of entries) {
    if (now - at < milliseconds) break;
    entries.delete(key);
  }
}
