/** `trapline record`: a process's events into a trace.dat file. */
import { randomBytes } from 'node:crypto';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileFilter } from '../../arch/v8/match.ts';
import { TraplineError } from '../../errors.ts';
import {
  bestCompression,
  type CompressionName,
  FileSink,
  fileSpool,
  type TraceDatVersion,
  TraceRecorder,
} from '../../export/index.ts';
import { clockInNs } from '../../kernel/trace/trace-clock.ts';
import type { LaunchedCommand } from '../../target/launch.ts';
import { findFiles } from '../../target/launch-files.ts';
import { attachTracefs, type ProcessTracefs } from '../attach-tracefs.ts';
import { holdCommand, interrupted } from '../command.ts';
import { detachLines } from '../reports.ts';
import { version } from '../version.ts';
import type { TraceArguments } from './options.ts';
import { type EventRequest, eventRequests, probedTarget, RequestedEvents } from './requests.ts';

/** The least ring: a record has to fit, and some more. */
const RING_MIN_KB = 64;
const RING_MAX_KB = 1 << 20;
const LAST_MS = 2000;

/** Everything there is to do at the end, once, whatever brought it. */
interface Ending {
  readonly reached: Promise<void>;
  /** Something is recorded: before that, an end is an interruption. */
  begun: boolean;
  end(): void;
}

function ending(): Ending {
  let end: () => void = () => undefined;
  const reached = new Promise<void>((resolve) => {
    end = resolve;
  });
  return { reached, begun: false, end };
}

/** Records until the end; the exit code is 1 when events were lost. */
export async function recordCommand(args: TraceArguments): Promise<number> {
  const [unexpected] = args.positionals;
  if (unexpected !== undefined)
    throw new TraplineError('EUSAGE', `${unexpected}: events are given by -e, a command by -c`);
  const requests = eventRequests(args);
  if (requests.length === 0 && !args.has('tracer'))
    throw new TraplineError('EUSAGE', 'there is nothing to record', { hint: 'give events: -e EVENT' });
  const clock = args.value('clock');
  if (clock !== undefined && args.has('date') && !clockInNs(clock))
    throw new TraplineError('EUSAGE', `--date: stamps of the clock ${clock} are not nanoseconds`);
  const plan: Plan = {
    args,
    requests,
    out: args.value('output') ?? 'trace.dat',
    version: Number(args.value('file-version')) as TraceDatVersion,
    compression: compressionOf(args),
    ringBytes: ringBytes(args),
    maxPauseMs: args.number('max-pause', 0) ?? 100,
    duration: args.number('duration', 1),
    sleepUs: args.number('sleep', 1),
  };
  const done = ending();
  const interrupt = new AbortController();
  const stop = (): void => {
    if (!done.begun) interrupt.abort();
    done.end();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, stop);
  try {
    return await record(plan, done, interrupt);
  } catch (error) {
    throw interrupt.signal.aborted ? interrupted() : error;
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}

interface Plan {
  readonly args: TraceArguments;
  readonly requests: readonly EventRequest[];
  readonly out: string;
  readonly version: TraceDatVersion;
  readonly compression: CompressionName;
  readonly ringBytes: number;
  readonly maxPauseMs: number;
  readonly duration: number | undefined;
  readonly sleepUs: number | undefined;
}

function compressionOf(args: TraceArguments): CompressionName {
  const name = args.value('compression') as CompressionName | 'any';
  const chosen = name === 'any' ? bestCompression() : name;
  if (chosen !== 'none' && args.value('file-version') === '6')
    throw new TraplineError('EUSAGE', 'a file of version 6 is not compressed');
  return chosen;
}

function ringBytes(args: TraceArguments): number {
  const wanted = args.number('buffer-size', 1) ?? 4096;
  if (wanted > RING_MAX_KB)
    throw new TraplineError('EUSAGE', `--buffer-size: ${wanted} KiB are more than ${RING_MAX_KB}`);
  return 2 ** Math.ceil(Math.log2(Math.max(RING_MIN_KB, wanted))) * 1024;
}

/** The process, by its pid or as the first one of a command. */
interface Recorded {
  readonly fs: ProcessTracefs;
  readonly command: LaunchedCommand | undefined;
}

async function record(plan: Plan, done: Ending, interrupt: AbortController): Promise<number> {
  const { args } = plan;
  const note = (text: string): void => void process.stderr.write(`${text}\n`);
  const say = args.has('quiet') ? () => undefined : note;
  let gone = false;
  const onGone = (reason: string): void => {
    gone = true;
    if (!args.has('command')) say(`the process is gone: ${reason}`);
    done.end();
  };
  const warn = args.has('verbose') ? note : () => undefined;
  const { fs, command } = await connect(plan, done, onGone, warn, interrupt);
  let recorder: TraceRecorder | undefined;
  try {
    const events = await setUp(plan, fs, (started) => {
      recorder = started;
    });
    interrupt.signal.throwIfAborted();
    done.begun = true;
    command?.go();
    say(`recording ${events} event${events === 1 ? '' : 's'} to ${plan.out}`);
    const timer =
      plan.sleepUs === undefined
        ? undefined
        : setInterval(() => recorder?.drain(), Math.max(1, plan.sleepUs / 1000));
    const timeUp = new AbortController();
    const time =
      plan.duration === undefined ? [] : [sleep(plan.duration * 1000, undefined, { signal: timeUp.signal })];
    await Promise.race([done.reached, ...time.map((one) => one.catch(() => undefined))]);
    timeUp.abort();
    clearInterval(timer);
    if (!gone) await fs.process.flush().catch(() => undefined);
    const result = write(plan, fs, recorder as TraceRecorder);
    say(`${plan.out}: ${result.pages} pages, ${result.bytes} bytes`);
    const { lost } = fs.process.arch;
    if (lost > 0) note(`Lost ${lost} events: the ring was full (-b makes it larger)`);
    return lost > 0 ? 1 : 0;
  } finally {
    recorder?.close();
    const report = await fs.detach();
    if (args.has('verbose')) note(detachLines(fs.process.session.info.pid, report));
    command?.letGo();
    if (gone && command !== undefined)
      await Promise.race([command.exited, sleep(LAST_MS, undefined, { ref: false })]);
    await command?.end();
  }
}

async function connect(
  plan: Plan,
  done: Ending,
  onGone: (reason: string) => void,
  onWarning: (message: string) => void,
  interrupt: AbortController,
): Promise<Recorded> {
  const { args, ringBytes: ring, maxPauseMs } = plan;
  const options = { maxPauseMs, ringBytes: ring, onGone, onWarning };
  const pid = args.number('pid', 1);
  const text = args.value('command');
  if (pid !== undefined) {
    if (text !== undefined) throw new TraplineError('EUSAGE', '-p and -c exclude each other');
    return { fs: await attachTracefs(pid, options), command: undefined };
  }
  if (text === undefined)
    throw new TraplineError('EUSAGE', 'no process to record', {
      hint: "give -p PID, or -c 'node app.js'; pgrep -a node lists the Node processes",
    });
  const { command, held } = await holdCommand(text, 'recorded', interrupt);
  void command.exited.then(done.end);
  void command.exiting.then(done.end);
  try {
    const files = new Set<string>();
    for (const request of plan.requests) {
      const target = probedTarget(request);
      if (target !== undefined) for (const file of findFiles(held, fileFilter(target))) files.add(file);
    }
    await held.prepare(
      [...files],
      plan.requests.some(({ event }) => event.startsWith('kretprobe')),
    );
    return { fs: await attachTracefs(held.pid, options), command };
  } catch (error) {
    await command.end();
    throw error;
  }
}

/** Instances, clock, options, then events; recording has begun when the first one is on. Answers with how many are. */
async function setUp(
  { args, requests, out }: Plan,
  fs: ProcessTracefs,
  started: (recorder: TraceRecorder) => void,
): Promise<number> {
  const instances = [...new Set(['', ...requests.map(({ instance }) => instance)])];
  for (const { name, value = '' } of args.given)
    if (name === 'buffer' && !instances.includes(value)) instances.push(value);
  for (const name of instances) if (name !== '') await fs.mkdir(`instances/${name}`);
  const clock = args.value('clock');
  for (const name of instances) {
    const folder = name === '' ? '' : `instances/${name}/`;
    if (clock !== undefined) await fs.writeFile(`${folder}trace_clock`, clock);
    for (const option of args.given)
      if (option.name === 'trace-option') await fs.writeFile(`${folder}trace_options`, option.value ?? '');
    // Nothing is recorded before everything is set up.
    await fs.writeFile(`${folder}tracing_on`, '0');
  }
  started(
    new TraceRecorder(fs.sync, {
      instances,
      spool: (instance, cpu) => fileSpool(`${out}.${instance === '' ? '' : `${instance}.`}cpu${cpu}`),
    }),
  );
  const requested = new RequestedEvents(fs);
  const enabled = new Set<string>();
  for (const request of requests)
    for (const event of await requested.enable(request)) enabled.add(`${request.instance} ${event}`);
  const tracer = args.value('tracer');
  if (tracer !== undefined) await fs.writeFile('current_tracer', tracer);
  for (const name of instances)
    await fs.writeFile(`${name === '' ? '' : `instances/${name}/`}tracing_on`, '1');
  return enabled.size;
}

/** Nanoseconds from the clock of stamps to the time of day. */
function toTimeOfDay({ process: { arch, session, tracing } }: ProcessTracefs): bigint {
  const ts = process.hrtime.bigint();
  const stamp = arch.clockAt(tracing.globalTrace.clock, ts) ?? ts;
  return session.info.monotonicToRealtimeNs + ts - stamp;
}

function write(plan: Plan, fs: ProcessTracefs, recorder: TraceRecorder): { pages: number; bytes: number } {
  const { args, out, version: fileVersion, compression } = plan;
  const sink = new FileSink(out);
  try {
    recorder.finish(
      sink,
      {
        uname: `${os.type()} ${os.hostname()} ${os.release()} ${os.machine()}`,
        version: `trapline ${version()}`,
        traceId: randomBytes(8).readBigUInt64LE(),
        ...(args.has('date') ? { dateOffsetUs: toTimeOfDay(fs) / 1000n } : {}),
      },
      { version: fileVersion, compression },
    );
    return { pages: recorder.pages, bytes: sink.position };
  } finally {
    sink.close();
  }
}
