// Runs conformance vectors against dist/:
//
//   npm run conformance -- bpf_conformance [PATH]    *.data files: a folder, default test/conformance/bpf_conformance
//   npm run conformance -- test_bpf [PATH]           vectors.jsonl.gz in a folder, default $TRAPLINE_SHARED/conformance/test_bpf,
//                                                    else ../shared/conformance/test_bpf beside the project
//   npm run conformance -- verifier [PATH]           results.jsonl.gz in a folder, default as above in conformance/verifier
//   npm run conformance -- differential [COUNT [SEED]]   random programs: interpreter, JIT and, as root on Linux, the kernel's JIT
//   npm run conformance -- golden [PATH]             recordings of a real kernel: a folder, default test/conformance/golden
//   npm run conformance -- ftrace DIR [PART]         the kernel's ftrace selftests against a mount of ours, as root; those whose path has PART
//   npm run conformance -- trace-cmd [EVENTS]        trace.dat files of ours as the installed trace-cmd reads them, line by line
//   npm run conformance                              all but ftrace, with 2000 random programs
//
// Prints a line for every difference, then `N passed, N failed, N skipped`; exits 1 when any failed.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { runDifferential } from '../test/conformance/differential.mjs';
import { runFtrace } from '../test/conformance/ftrace.mjs';
import { runTestBpfInThreads } from '../test/conformance/parallel.mjs';
import { runBpfConformance } from '../test/conformance/suites.mjs';
import { runVerifier } from '../test/conformance/verifier.mjs';
import { runGolden } from '../test/support/golden/golden.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const entry = path.join(root, 'dist/bpf/index.js');
const shared = process.env.TRAPLINE_SHARED ?? path.join(root, '..', 'shared');

const SUITES = {
  bpf_conformance: { run: runBpfConformance, path: path.join(root, 'test/conformance/bpf_conformance') },
  test_bpf: { run: runTestBpfInThreads(entry), path: path.join(shared, 'conformance/test_bpf') },
  verifier: { run: runVerifier, path: path.join(shared, 'conformance/verifier') },
  golden: {
    run: runGolden,
    path: path.join(root, 'test/conformance/golden'),
    entry: 'dist/tracefs/index.js',
  },
};

const DIFFERENTIAL = 'differential';
const FTRACE = 'ftrace';
const TRACE_CMD = 'trace-cmd';
const TRACE_CMD_EVENTS = 20_000;
const DEFAULT_PROGRAMS = 2000;

/** A module that plain Node cannot load as it is. */
async function bundled(file) {
  const { build } = await import('esbuild');
  const outfile = path.join(root, '.cache', `${path.basename(file, '.ts')}.mjs`);
  const entryPoints = [path.join(root, file)];
  await build({ entryPoints, outfile, bundle: true, platform: 'node', format: 'esm', external: ['koffi'] });
  return import(pathToFileURL(outfile).href);
}

const [, , name, given, seed] = process.argv;
if (name !== undefined && ![DIFFERENTIAL, FTRACE, TRACE_CMD, ...Object.keys(SUITES)].includes(name)) {
  console.error(
    `unknown suite ${name}: ${[...Object.keys(SUITES), DIFFERENTIAL, FTRACE, TRACE_CMD].join(', ')}`,
  );
  process.exit(1);
}
if (!existsSync(entry)) {
  console.error('dist is missing: run npm run build');
  process.exit(1);
}
const load = (file) => import(pathToFileURL(path.join(root, file)).href);
const bpf = await load('dist/bpf/index.js');

const tell = (test, problems, skipped) => {
  for (const problem of problems) console.log(`${test}: ${problem}`);
  if (skipped !== undefined) console.log(`${test}: skipped, ${skipped}`);
};
const total = { passed: 0, failed: 0, skipped: 0 };
for (const [suite, { run, path: folder, entry: own }] of Object.entries(SUITES)) {
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
  const counts = await run(own === undefined ? bpf : await load(own), where, tell);
  for (const key of Object.keys(total)) total[key] += counts[key];
}
if (name === FTRACE) {
  if (given === undefined) {
    console.error('ftrace needs the folder of the selftests: tools/testing/selftests/ftrace');
    process.exit(1);
  }
  const counts = await runFtrace(given, tell, seed);
  for (const key of Object.keys(total)) total[key] += counts[key];
}
if (name === undefined || name === TRACE_CMD) {
  const { runTraceCmd } = await bundled('test/conformance/trace-cmd.ts');
  const counts = runTraceCmd(
    name === TRACE_CMD && given !== undefined ? Number(given) : TRACE_CMD_EVENTS,
    tell,
  );
  for (const key of Object.keys(total)) total[key] += counts[key];
}
if (name === undefined || name === DIFFERENTIAL) {
  const { kernelBpf } = await bundled('test/support/kernel-bpf.ts');
  if (kernelBpf.reason !== undefined) console.log(`differential: without the kernel, ${kernelBpf.reason}`);
  const counts = runDifferential(bpf, {
    count: name === DIFFERENTIAL && given !== undefined ? Number(given) : DEFAULT_PROGRAMS,
    first: seed === undefined ? 1 : Number(seed),
    kernel: kernelBpf.reason === undefined ? kernelBpf : undefined,
    report: (test, problems) => console.log(`${test}: ${problems.join('\n')}`),
    progress: (done) => process.stderr.isTTY && process.stderr.write(`\r${done} programs`),
  });
  console.log(
    `differential: ${counts.refused} programs were refused by every verifier, ${counts.disagreed} by one of ours and the kernel's`,
  );
  if (counts.unextended > 0) {
    console.log(
      `differential: on ${counts.unextended} the kernel left the upper half of r0 after a 32-bit cmpxchg, which it has to clear`,
    );
  }
  for (const key of Object.keys(total)) total[key] += counts[key];
}
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 ? 1 : 0;
