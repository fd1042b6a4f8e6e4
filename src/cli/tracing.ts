/** The command line of the tracer. */
import { existsSync, readFileSync } from 'node:fs';
import { formatDiagnostic, TraplineError } from '../errors.ts';
import { formatErrors } from '../lang/diagnostics.ts';
import { JsonPrinter, TextPrinter } from '../output/index.ts';
import { didYouMean } from '../similar.ts';
import { HOW_TO_FIND } from '../target/process.ts';
import { complain, failureCode, systemReason } from './complain.ts';
import { connect } from './connect.ts';
import { showStage } from './debug.ts';
import { ANY_EVENTS } from './events.ts';
import { helpText } from './help.ts';
import { machineInfo, processInfo } from './info.ts';
import { listEvents, listProbes, namesEvents, patternsOf } from './list.ts';
import { type CommandLine, flagName, parseCommandLine } from './options.ts';
import { compileFor, parseText } from './pipeline.ts';
import { ArmWarnings, armLine, countingLine, detachLines, notRestored } from './reports.ts';
import { type Target, type Tracing, trace } from './run.ts';
import { standardSinks } from './sinks.ts';
import { EventRelay } from './tracee.ts';
import { version } from './version.ts';

/** Runs a command line; resolves to the exit code, 1 (130 after Ctrl-C) after an error that was told on standard error. */
export async function tracingMain(argv: readonly string[]): Promise<number> {
  try {
    return await main(argv);
  } catch (error) {
    const usage = `trapline [options] ${flagName('pid')} PID PROGRAM`;
    complain(error, usage, (e) => (e.position === undefined ? formatDiagnostic(e) : formatErrors(e)));
    return failureCode(error);
  }
}

async function main(argv: readonly string[]): Promise<number> {
  const line = parseCommandLine(argv);
  if (line.help) return print(helpText());
  if (line.version) return print(`trapline ${version()}\n`);
  if (line.info) return await showInfo(line);
  if (line.list) return await list(line);
  if ((line.execute ?? line.positionals[0] ?? '') === '') {
    throw new TraplineError('EUSAGE', 'no program', { hint: 'trapline --help shows how to give one' });
  }
  const program: Program = { ...readProgram(line), unsafe: line.unsafe };
  if (line.debug !== undefined) return await debug(line, program);
  return await run(line, program);
}

interface Program {
  readonly script: string;
  /** As error messages call it. */
  readonly file: string;
  readonly params: readonly string[];
  readonly unsafe: boolean;
}

/** The program of -e, of a positional argument that is one, of a file, or of standard input. */
function readProgram({ execute, positionals }: CommandLine): Omit<Program, 'unsafe'> {
  if (execute !== undefined) return { script: execute, file: 'stdin', params: positionals };
  const [first = '', ...params] = positionals;
  if (first.includes('{') && !existsSync(first)) return { script: first, file: 'stdin', params };
  try {
    const script = readFileSync(first === '-' ? 0 : first, 'utf8');
    return { script, file: first === '-' ? 'stdin' : first, params };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'EIO';
    const what = code === 'ENOENT' ? 'there is no such file' : systemReason(error);
    throw new TraplineError(code, `cannot read the script ${first}: ${what}`, {
      hint: code === 'ENOENT' ? hintOf(first) : undefined,
    });
  }
}

/** For a name that is no program and no file. */
function hintOf(name: string): string {
  if (name === 'help') return 'trapline --help shows how to give one';
  return (
    didYouMean(name, ['bpf', 'record', 'report', 'export', 'tracefs']) ??
    "a program contains a block: 'kprobe:server.js:handle { @ = count(); }'"
  );
}

function targetOf({ pids, command }: CommandLine): Target {
  if (command !== undefined) {
    if (pids.length > 0) throw new TraplineError('EUSAGE', '-p and -c exclude each other');
    return { command };
  }
  if (pids.length === 0) {
    throw new TraplineError('EUSAGE', 'no process to trace', {
      hint: `give -p PID, or -c 'node app.js'; ${HOW_TO_FIND}`,
    });
  }
  return { pids };
}

/** Listing looks at running processes only. */
function runningOf(line: CommandLine): { readonly pids: readonly number[] } {
  const target = targetOf(line);
  if (!('pids' in target)) throw new TraplineError('EUSAGE', '-l needs a running process: -p PID');
  return target;
}

async function run(line: CommandLine, program: Program): Promise<number> {
  if (line.dryRun && line.pids.length === 0 && line.command === undefined) {
    // No process to look at: the script alone is checked.
    compileFor(parseText(program), undefined);
    return 0;
  }
  const target = targetOf(line);
  let tracing: Tracing | undefined;
  let readerGone = false;
  const sinks = standardSinks(line.output, () => {
    // Nobody reads any more: nothing to print, everything to restore.
    readerGone = true;
    tracing?.leave();
  });
  const note = (text: string) => sinks.progress(text.endsWith('\n') ? text : `${text}\n`);
  const printer = line.format === 'json' ? new JsonPrinter(sinks) : new TextPrinter(sinks);
  const warnings = new ArmWarnings();
  const tellMore = () => {
    const text = line.verbose ? undefined : warnings.more();
    if (text !== undefined) note(text);
  };
  tracing = trace({
    ...program,
    target,
    arm: line.arm,
    maxPauseMs: line.maxPauseMs,
    maxactive: line.maxactive,
    dryRun: line.dryRun,
    printer,
    observer: {
      warning: note,
      gone: (pid, reason) => note(`process ${pid}: ${reason}`),
      armed: (_pid, report) => {
        const warning = warnings.of(report);
        const text = line.verbose ? armLine(report) : warning;
        if (text !== undefined) note(text);
      },
      attached: (ms) => {
        if (line.verbose) note(countingLine(ms));
        tellMore();
      },
      detached: (pid, report) => {
        tellMore();
        for (const text of warnings.missed()) note(text);
        for (const failure of report.failures) note(notRestored(pid, failure));
        if (line.verbose) note(detachLines(pid, report));
      },
    },
  });
  if (readerGone) tracing.leave();
  const interrupt = onInterrupt(tracing, note);
  try {
    const { exitCode, detached } = await tracing.finished;
    sinks.close();
    if (sinks.failed) return 1;
    return readerGone && detached.every(({ failures }) => failures.length === 0) ? 0 : exitCode;
  } finally {
    interrupt.remove();
    sinks.close();
  }
}

/** A second Ctrl-C waits so long for the process's report of what it restored. */
const LEAVE_MS = 3000;

/** The end needs the process's main thread. One that does not answer (stopped, in a long native call) for so long is told of. */
const ANSWER_MS = 3000;

/**
 * The same signal again within so short a time is one with the first: `timeout` sends its own to the command and then to the whole group, and passes on the
 * terminal's Ctrl-C, which the command has from the terminal too.
 */
const SAME_MS = 100;

/** Ctrl-C ends tracing with maps, a second one without. SIGTERM and SIGHUP are as Ctrl-C. */
function onInterrupt(tracing: Tracing, note: (text: string) => void): { remove(): void } {
  let count = 0;
  let last: { readonly signal: NodeJS.Signals; readonly at: number } | undefined;
  let patience: NodeJS.Timeout | undefined;
  const interrupt = (signal: NodeJS.Signals) => {
    const at = performance.now();
    if (last?.signal === signal && at - last.at < SAME_MS) return;
    last = { signal, at };
    count++;
    if (count === 1) {
      tracing.stop();
      const text = 'WARNING: the process does not answer yet: another Ctrl-C leaves at once, without maps';
      patience = setTimeout(() => note(text), ANSWER_MS);
    } else if (count === 2) {
      tracing.leave();
      // The agent restores by itself when its tracer is gone.
      setTimeout(() => process.exit(130), LEAVE_MS).unref();
    }
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, interrupt);
  return {
    remove: () => {
      clearTimeout(patience);
      for (const signal of signals) process.off(signal, interrupt);
    },
  };
}

async function debug(line: CommandLine, program: Program): Promise<number> {
  return print(await showStage(line.debug!, program, line.pids.slice(0, 1), line.maxPauseMs));
}

async function list(line: CommandLine): Promise<number> {
  const patterns = patternsOf(line.execute ?? line.positionals[0] ?? '*');
  // what any process has
  if (line.pids.length === 0 && line.command === undefined && patterns.every(namesEvents)) {
    const texts = patterns.flatMap((pattern) => listEvents(ANY_EVENTS, pattern, line.verbose));
    return print([...new Set(texts)].map((text) => `${text}\n`).join(''));
  }
  const sessions = await connect(runningOf(line), () => new EventRelay());
  try {
    const lines = new Set<string>();
    let nothing: unknown;
    const warn = (text: string): void => void process.stderr.write(`${text}\n`);
    for (const pattern of patterns) {
      let found = 0;
      for (const session of sessions) {
        try {
          const texts = await listProbes(session, pattern, line.verbose, line.maxPauseMs, warn);
          found += texts.length;
          for (const text of texts) lines.add(text);
        } catch (error) {
          // in one of several processes there may be what another has not
          if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
          nothing ??= error;
        }
      }
      if (found === 0) throw nothing;
      nothing = undefined;
    }
    return print([...lines].map((text) => `${text}\n`).join(''));
  } finally {
    await Promise.allSettled(sessions.map((session) => session.detach()));
  }
}

async function showInfo(line: CommandLine): Promise<number> {
  let text = machineInfo();
  if (line.pids.length > 0) {
    const sessions = await connect(line, () => new EventRelay());
    for (const session of sessions) text += `\n${processInfo(session.info)}`;
    await Promise.allSettled(sessions.map((session) => session.detach()));
  }
  return print(text);
}

function print(text: string): number {
  process.stdout.on('error', () => {});
  process.stdout.write(text);
  return 0;
}
