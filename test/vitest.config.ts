import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{unit,stack,outside}/*.test.ts'],
    reporters: ['default', './contract-table.ts'],
    globalSetup: ['./global-setup.ts'],
    // The servers share two cores with the tests: side by side, files would only measure each other.
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
