import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import * as modules from '../../../src/tracefs/index.ts';
import { runCases } from '../../support/golden/cases.mjs';
import { GoldenSystem } from '../../support/golden/system.mjs';

const folder = mkdtempSync(path.join(os.tmpdir(), 'cases-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const TRIGGER = 'events/grp/orc/trigger';
const ROOT = '/sys/kernel/tracing';
const hist = (keys: string, state = 'active') =>
  `  |hist:keys=${keys}:vals=hitcount:sort=hitcount:size=2048 [${state}]`;

const SNAPSHOT = `# tracer: nop
#
#
# * Snapshot is allocated *
#
# Snapshot commands:
# echo 0 > snapshot : Clears and frees snapshot buffer
# echo 1 > snapshot : Allocates snapshot buffer, if not already allocated.
#                      Takes a snapshot of the main buffer.
# echo 2 > snapshot : Clears snapshot buffer (but does not allocate or free)
#                      (Doesn't have to be '2' works with any number that
#                       is not a '0' or '1')`
  .split('\n')
  .map((line) => `  |${line}`);

/** Cases of which the ones before are not recorded: file, mode, text, result, and what the file shows then. */
function problems(name: string, cases: readonly (readonly [string, string, string, string, ...string[]])[]) {
  const text = cases.map(
    ([file, mode, write, result, ...shown], n) =>
      `== ${2 * n + 2}\nfile: ${ROOT}/${file}\nmode: ${mode}\nwrite: ${write}\nresult: ${result}\n` +
      `readback: ${ROOT}/${file} (1 bytes)\n${shown.map((line) => `${line}\n`).join('')}\n`,
  );
  const file = path.join(folder, name);
  writeFileSync(file, text.join(''));
  const found: string[] = [];
  runCases(
    () => new GoldenSystem(modules, '/nonexistent'),
    file,
    name,
    (test: string, why: string[]) => found.push(...why.map((one) => `${test}: ${one}`)),
  );
  return found;
}

test('what a case began from follows from what it shows, where the one before is not recorded', () => {
  expect(
    problems('triggers.txt', [
      [TRIGGER, '>>', 'hist:keys=CPU', 'ok 13/13', hist('common_cpu')],
      [TRIGGER, '>>', 'hist:keys=common_stacktrace.hex', 'ok 31/31', hist('common_stacktrace')],
      [TRIGGER, '>>', 'traceon:1:2', 'ok 11/11', '  |traceon:count=1'],
      [TRIGGER, '>>', 'hist:keys=dfd:pause', 'ok 19/19', hist('dfd', 'paused'), hist('name', 'paused')],
      [TRIGGER, '>>', 'hist:keys=dfd:cont', 'ok 18/18', hist('dfd'), hist('name', 'paused')],
      [TRIGGER, '>>', 'hist:keys=mode:pause', 'ok 20/20', hist('mode', 'paused')],
      [TRIGGER, '>>', 'hist:keys=dfd', 'errno 17 EEXIST', hist('dfd')],
    ]),
  ).toEqual([]);
});

test('files of several lines', () => {
  expect(
    problems('control.txt', [
      ['set_event_pid', '>>', '3 4', 'ok 3/3', '  |1', '  |3', '  |4'],
      ['set_event_pid', '>>', 'x', 'errno 22 EINVAL', '  |1', '  |3'],
      ['snapshot', '>', '2', 'ok 1/1', ...SNAPSHOT],
    ]),
  ).toEqual([]);
});

test('a case that differs is told', () => {
  expect(problems('control.txt', [['set_event_pid', '>', '7', 'ok 1/1', '  |8']])).toEqual([
    'control.txt 2: set_event_pid line 1: expected "8", got "7"',
  ]);
});
