import { defineConfig, type TestUserConfig } from 'vitest/config';

/** For tests that need servers: `servers.ts` starts them. */
export const withServers: TestUserConfig = {
  globalSetup: ['./global-setup.ts'],
  // Servers and tests share the machine's cores: test files that run concurrently would distort each other's timings.
  fileParallelism: false,
  testTimeout: 30_000,
  hookTimeout: 60_000,
};

export default defineConfig({
  test: {
    reporters: ['default', './contract-table.ts'],
    projects: [
      // One project after the other, for the same reason.
      {
        test: {
          name: 'unit',
          include: ['unit/*.test.ts'],
          testTimeout: 30_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 1 },
        },
      },
      { test: { name: 'stack', include: ['{stack,outside}/*.test.ts'], ...withServers, sequence: { groupOrder: 2 } } },
    ],
  },
});
