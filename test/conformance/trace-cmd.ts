/** Files of ours as the installed trace-cmd (libtraceevent) reads them, and its files as we read them: line by line. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import zlib from 'node:zlib';
import {
  type CompressionName,
  FileSink,
  fileSource,
  type ReportOptions,
  reportLines,
  TraceDat,
  TraceEvents,
  TraceRecorder,
} from '../../src/export/index.ts';
import { RecordedSystem } from '../export/system.ts';

export interface TraceCmdResult {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export type Tell = (test: string, problems: readonly string[], skipped?: string) => void;

const REPORTS: readonly (readonly [flags: readonly string[], options: ReportOptions])[] = [
  [[], {}],
  [['-l'], { latency: true }],
  [['-t'], { nanoseconds: true }],
  [['--ts-diff'], { tsDiff: true }],
];
/** Lines that are shown of a difference. */
const SHOWN = 3;

function traceCmd(...args: string[]): {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
} {
  const result = spawnSync('trace-cmd', args, { encoding: 'latin1', maxBuffer: 1 << 28, timeout: 120_000 });
  return {
    status: result.error === undefined ? result.status : null,
    stdout: result.stdout ?? '',
    stderr: result.stderr ?? '',
  };
}

/** Why there is nothing to compare with; undefined where trace-cmd is installed. */
export function traceCmdMissing(): string | undefined {
  return traceCmd('--version').status === null ? 'trace-cmd is not installed' : undefined;
}

/** Those that both sides can read. */
function compressions(): CompressionName[] {
  const theirs = traceCmd('list', '-c').stdout;
  const ours = (name: string): boolean => name !== 'zstd' || 'zstdCompressSync' in zlib;
  return (['none', 'zlib', 'zstd'] as const).filter(
    (name) => name === 'none' || (theirs.includes(name) && ours(name)),
  );
}

function ourLines(file: string, options: ReportOptions): string[] {
  const dat = new TraceDat(fileSource(file));
  try {
    return [...reportLines(new TraceEvents(dat), options)];
  } finally {
    dat.close();
  }
}

function differences(ours: readonly string[], theirs: readonly string[]): string[] {
  const problems: string[] = [];
  if (ours.length !== theirs.length)
    problems.push(`${ours.length} lines, and trace-cmd has ${theirs.length}`);
  for (let n = 0; n < Math.min(ours.length, theirs.length) && problems.length < SHOWN; n++)
    if (ours[n] !== theirs[n]) problems.push(`line ${n + 1}:\n  ours   ${ours[n]}\n  theirs ${theirs[n]}`);
  return problems;
}

function theirLines(file: string, flags: readonly string[]): string[] {
  // -N: plugins print some of the kernel's events in ways of their own.
  return traceCmd('report', '-N', ...flags, '-i', file)
    .stdout.replace(/\n$/, '')
    .split('\n');
}

/** Compares `rounds` events in every form. */
export function runTraceCmd(rounds: number, tell: Tell): TraceCmdResult {
  const missing = traceCmdMissing();
  if (missing !== undefined) {
    tell('trace-cmd', [], missing);
    return { passed: 0, failed: 0, skipped: 1 };
  }
  const folder = mkdtempSync(path.join(tmpdir(), 'trapline-trace-cmd-'));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const check = (test: string, problems: readonly string[]): void => {
    if (problems.length === 0) counts.passed++;
    else counts.failed++;
    if (problems.length > 0) tell(test, problems);
  };
  try {
    const forms: (readonly [6 | 7, CompressionName])[] = [
      [6, 'none'],
      ...compressions().map((name) => [7, name] as const),
    ];
    for (const [version, compression] of forms) {
      const name = `version ${version}, ${compression}`;
      const file = path.join(folder, `${version}-${compression}.dat`);
      const made = write(file, rounds, version, compression);
      for (const [flags, options] of REPORTS) {
        const ours = ourLines(file, options);
        const problems = differences(ours, theirLines(file, flags));
        if (ours.length !== made + 1) problems.unshift(`${ours.length - 1} events of ${made}`);
        check(`${name} report ${flags.join(' ')}`, problems);
      }
      // Of texts, libtraceevent shows bytes for good once it met one that is not printable.
      const raw = (line: string): boolean => / (?:numbers|print): /.test(line);
      check(
        `${name} report -R`,
        differences(ourLines(file, { raw: true }).filter(raw), theirLines(file, ['-R']).filter(raw)),
      );
      const dump = traceCmd('dump', '--validate', '-i', file);
      check(`${name} dump --validate`, dump.status === 0 ? [] : [dump.stderr + dump.stdout]);
      if (version === 6) continue;
      const converted = path.join(folder, `converted-${compression}.dat`);
      const convert = traceCmd(
        'convert',
        '-i',
        file,
        '-o',
        converted,
        '--file-version',
        '7',
        '--compression',
        compression,
      );
      check(
        `${name} convert, read back`,
        convert.status === 0 ? differences(ourLines(converted, {}), ourLines(file, {})) : [convert.stderr],
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return counts;
}

/** A file with two buffers, the second one of an instance; answers with how many events it has. */
function write(file: string, rounds: number, version: 6 | 7, compression: CompressionName): number {
  const system = new RecordedSystem();
  system.fs.mkdir('instances/second');
  const recorder = new TraceRecorder(system.fs, { instances: ['', 'second'] });
  let made = system.run(rounds);
  for (let n = 0; n < 50; n++) {
    system.now += 1000n;
    system.task(101, n % 3);
    system.fs.writeFile('instances/second/trace_marker', `second ${n}`);
    made++;
  }
  const sink = new FileSink(file);
  try {
    recorder.finish(
      sink,
      { uname: 'Linux test 6.12 x86_64', version: 'trapline', traceId: 1n },
      { version, compression },
    );
  } finally {
    sink.close();
  }
  return made;
}
