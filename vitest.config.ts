import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    include: ['test/**/*.test.ts'],
    // Tests start real Node processes and attach to them; each file gets a process of its own.
    pool: 'forks',
    maxWorkers: Number(process.env.TRAPLINE_TEST_WORKERS ?? 2),
    // What hangs fails; a machine that is slow and busy does not.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Attaching by SIGUSR1 and live edits leave processes behind when a test dies: let teardown run.
    teardownTimeout: 10_000,
    fileParallelism: true,
    passWithNoTests: false,
  },
});
