import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { readTraceDat, reportLines, TraceEvents } from '../../src/export/index.ts';
import { runTraceCmd, traceCmdMissing } from '../conformance/trace-cmd.ts';
import { unless } from '../support/skip.ts';

const missing = traceCmdMissing();

test('the installed trace-cmd reads our files as we do', unless(missing), () => {
  const problems: string[] = [];
  const { passed, failed } = runTraceCmd(800, (name, found) => problems.push(`${name}: ${found.join('\n')}`));
  expect(problems).toEqual([]);
  expect(failed).toBe(0);
  expect(passed).toBeGreaterThanOrEqual(13);
});

test('a file that trace-cmd 3.1.6 wrote is reported as it reports it', () => {
  const fixture = (name: string): Buffer => readFileSync(new URL(`fixtures/${name}`, import.meta.url));
  const events = new TraceEvents(readTraceDat(gunzipSync(fixture('trace-cmd.dat.gz'))));
  expect([...reportLines(events)]).toEqual(fixture('trace-cmd.txt').toString('latin1').trimEnd().split('\n'));
});
