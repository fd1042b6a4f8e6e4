// Runs conformance vectors against dist/:
//
//   npm run conformance -- bpf_conformance [PATH]    *.data files: a folder, default test/conformance/bpf_conformance
//   npm run conformance -- test_bpf [PATH]           vectors.jsonl.gz in a folder, default $TRAPLINE_SHARED/conformance/test_bpf,
//                                                    else ../shared/conformance/test_bpf beside the project
//   npm run conformance -- verifier [PATH]           results.jsonl.gz in a folder, default as above in conformance/verifier
//   npm run conformance                              all
//
// Prints a line for every difference, then `N passed, N failed, N skipped`; exits 1 when any failed.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { runBpfConformance, runTestBpf } from '../test/conformance/suites.mjs';
import { runVerifier } from '../test/conformance/verifier.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const shared = process.env.TRAPLINE_SHARED ?? path.join(root, '..', 'shared');

const SUITES = {
  bpf_conformance: { run: runBpfConformance, path: path.join(root, 'test/conformance/bpf_conformance') },
  test_bpf: { run: runTestBpf, path: path.join(shared, 'conformance/test_bpf') },
  verifier: { run: runVerifier, path: path.join(shared, 'conformance/verifier') },
};

const [, , name, given] = process.argv;
if (name !== undefined && SUITES[name] === undefined) {
  console.error(`unknown suite ${name}: ${Object.keys(SUITES).join(', ')}`);
  process.exit(1);
}
const entry = path.join(root, 'dist/bpf/index.js');
if (!existsSync(entry)) {
  console.error('dist is missing: run npm run build');
  process.exit(1);
}
const bpf = await import(pathToFileURL(entry).href);

const total = { passed: 0, failed: 0, skipped: 0 };
for (const [suite, { run, path: folder }] of Object.entries(SUITES)) {
  if (name !== undefined && name !== suite) continue;
  const where = path.resolve(given ?? folder);
  if (!existsSync(where)) {
    if (given !== undefined) {
      console.error(`${where} does not exist`);
      process.exit(1);
    }
    console.log(`${suite}: skipped, ${path.relative(root, where)} is not there`);
    total.skipped++;
    continue;
  }
  const counts = run(bpf, where, (test, problems, skipped) => {
    for (const problem of problems) console.log(`${test}: ${problem}`);
    if (skipped !== undefined) console.log(`${test}: skipped, ${skipped}`);
  });
  for (const key of Object.keys(total)) total[key] += counts[key];
}
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 ? 1 : 0;
