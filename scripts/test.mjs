/**
 * `npm test [-- vitest arguments]`: builds, runs every test once, says what was skipped and why.
 * The last line is `N passed, N failed`; the exit code is 1 when anything failed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { startVitest } from 'vitest/node';
import CountingReporter from './test-reporter.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const filters = process.argv.slice(2).filter((argument) => argument !== '--no-build');

if (!process.argv.includes('--no-build')) {
  const build = spawnSync(process.execPath, ['scripts/build.mjs'], { stdio: 'inherit' });
  if (build.status !== 0) {
    console.log('The build failed; no test was run.\n0 passed, 1 failed');
    process.exit(1);
  }
}

const nodes = findNodes();
const counting = new CountingReporter();
const vitest = await startVitest(
  'test',
  filters,
  { watch: false, reporters: ['default', counting] },
  {},
  { stdout: process.stdout, stderr: process.stderr },
);
await vitest.close();

const notes = [];
if (process.getuid?.() !== 0) notes.push('not root: tests that need root were left out');
const missing = ['v20', 'v22', 'v24', 'v26'].filter(
  (major) => !nodes.some((node) => node.startsWith(`${major}.`)),
);
if (missing.length > 0) {
  notes.push(`no binary of Node ${missing.join(', ')}: left out (.ci/run installs them)`);
}
console.log(`\nNode versions tested: ${nodes.join(' ')}`);
for (const note of notes) console.log(`Note: ${note}`);
for (const [reason, names] of counting.skipped) {
  console.log(`Skipped ${names.length} (${reason}):`);
  for (const name of names.slice(0, 10)) console.log(`  ${name}`);
  if (names.length > 10) console.log(`  … and ${names.length - 10} more`);
}
for (const failure of counting.failures) console.log(`FAILED ${failure}`);
if (counting.passed + counting.failed === 0) {
  console.log('No test was run.');
  counting.failed = 1;
}
console.log(`${counting.passed} passed, ${counting.failed} failed`);
process.exit(counting.failed === 0 ? 0 : 1);

/** Versions of the binaries that test/support/nodes.ts will use. */
function findNodes() {
  const binaries = new Set([process.execPath]);
  if (process.env.TRAPLINE_NODES) {
    for (const binary of process.env.TRAPLINE_NODES.split(':')) if (existsSync(binary)) binaries.add(binary);
  } else {
    const folder = path.join(root, '.cache/nodes/node_modules');
    if (existsSync(folder)) {
      for (const name of readdirSync(folder)) {
        const binary = path.join(folder, name, 'bin/node');
        if (existsSync(binary)) binaries.add(binary);
      }
    }
  }
  const versions = [...binaries].map((binary) =>
    spawnSync(binary, ['--version'], { encoding: 'utf8' }).stdout.trim(),
  );
  return [...new Set(versions)].sort();
}
