// The kernel's ftrace selftests (tools/testing/selftests/ftrace of its sources) against a mounted tracing folder of ours, in mount and
// pid namespaces of their own. ftrace-selftests.txt says which are expected to pass, and why the others are not.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const TIMEOUT_S = 60;

/** `path | pass`, `path | fails | reason` or `path | out | reason` (not run), by path. */
export function expectations() {
  const lines = readFileSync(path.join(here, 'ftrace-selftests.txt'), 'utf8').split('\n');
  const rows = lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => line.split(' | '));
  return new Map(rows.map(([test, expected, reason = '']) => [test, { expected, reason }]));
}

/** Why they cannot run here; undefined where they can. */
function obstacle(dir) {
  if (process.platform !== 'linux' || process.getuid() !== 0) return 'it needs Linux and root';
  if (!existsSync('/dev/fuse')) return 'there is no /dev/fuse';
  if (!existsSync('/sys/kernel/tracing')) return 'there is no /sys/kernel/tracing to mount at';
  if (!existsSync(path.join(dir, 'ftracetest'))) return `${dir} has no ftracetest`;
  return undefined;
}

/**
 * Runs the tests whose path contains `only`, or all. `report(test, problems, skipped)` is told of each. One that passes against what the
 * list says is a failure, too.
 */
export async function runFtrace(dir, report, only) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const why = obstacle(dir);
  if (why !== undefined) {
    report('ftrace', [], why);
    return { ...counts, skipped: 1 };
  }
  const tests = [];
  for (const [test, { expected, reason }] of expectations()) {
    if (only !== undefined && !test.includes(only)) continue;
    if (!existsSync(path.join(dir, 'test.d', test))) report(test, [], 'it is not there');
    else if (expected === 'out') report(test, [], reason);
    else {
      tests.push(test);
      continue;
    }
    counts.skipped++;
  }
  const inside = path.join(here, '../support/ftrace/run-inside.mjs');
  const unshare = ['-m', '-p', '-f', '--kill-child', '--mount-proc', '--propagation', 'private'];
  const args = [...unshare, process.execPath, inside, path.resolve(dir), String(TIMEOUT_S), ...tests];
  const child = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const closed = new Promise((resolve) => child.once('close', resolve));
  const known = expectations();
  const times = [];
  let seen = 0;
  for await (const line of readline.createInterface({ input: child.stdout })) {
    const { test, result, seconds, defects, log } = JSON.parse(line);
    times.push([seconds, test]);
    const { expected, reason } = known.get(test);
    const passed = (result === 'PASS' || result === 'XFAIL') && defects.length === 0;
    seen++;
    if (passed && expected === 'pass') counts.passed++;
    else if (passed) {
      counts.failed++;
      report(test, ['passes, though the list does not expect it']);
    } else if (expected === 'pass' || only !== undefined) {
      counts.failed++;
      report(test, [`${result}\n${[...defects, log].join('\n')}`]);
    } else {
      counts.skipped++;
      report(test, [], `${result}: ${reason}`);
    }
  }
  await closed;
  const slowest = times.sort(([a], [b]) => b - a).slice(0, 5);
  if (only === undefined)
    console.log(`slowest: ${slowest.map(([seconds, test]) => `${test} ${seconds.toFixed(0)} s`).join(', ')}`);
  // What the inside could not report on has failed.
  counts.failed += tests.length - seen;
  if (seen < tests.length) report('ftrace', [`ended after ${seen} of ${tests.length} tests`]);
  return counts;
}
