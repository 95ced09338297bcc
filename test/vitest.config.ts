import { defineConfig, type TestUserConfig } from 'vitest/config';

/** For tests that need servers: `servers.ts` starts them. */
export const withServers: TestUserConfig = {
  globalSetup: ['./global-setup.ts'],
  // The servers share the machine's cores with the tests: with files side by side, one would slow another's timings.
  fileParallelism: false,
  testTimeout: 30_000,
  hookTimeout: 60_000,
};

export default defineConfig({
  test: {
    reporters: ['default', './contract-table.ts'],
    projects: [
      { test: { name: 'unit', include: ['unit/*.test.ts'], testTimeout: 30_000, hookTimeout: 60_000 } },
      { test: { name: 'stack', include: ['{stack,outside}/*.test.ts'], ...withServers } },
    ],
  },
});
