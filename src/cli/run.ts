import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { getSystemErrorName } from 'node:util';
import { fileFilter, isLineTarget } from '../arch/v8/match.ts';
import type { ArmReport } from '../arch/v8/types.ts';
import { formatDiagnostic, TraplineError } from '../errors.ts';
import { acrossProcesses, type SeveralProcesses } from '../lang/index.ts';
import { type Printer, printedMap, type RawMapEntry, type RecordEvent } from '../output/index.ts';
import type { HeldProcess, LaunchedCommand } from '../target/launch.ts';
import { findFiles } from '../target/launch-files.ts';
import type { ArmOptions, DetachReport, ProcessInfo } from '../target/session.ts';
import { startCommand } from './command.ts';
import { connect } from './connect.ts';
import { parseText, positionIn, type ScriptText } from './pipeline.ts';
import { runShell } from './system.ts';
import { EventRelay, Tracee } from './tracee.ts';

/** Which processes to trace: running ones, a command to start, or the own one. */
export type Target =
  | { readonly pids: readonly number[] }
  | { readonly command: string }
  | { readonly self: true };

export interface TraceOptions {
  /** The program, in bpftrace's language. */
  readonly script: string;
  /** How the script is called in messages; default `stdin`. */
  readonly file?: string;
  /** `$1`, `$2`, … */
  readonly params?: readonly string[];
  /** Process ids, or a command to start. */
  readonly target: Target;
  readonly arm?: ArmOptions['way'];
  /** Longest stop of the process that arming may cause, in ms; default 100. */
  readonly maxPauseMs?: number;
  /** The script may call system(); default false. */
  readonly unsafe?: boolean;
  /** Calls followed at once by a return probe; default 0, unlimited. */
  readonly maxactive?: number;
  /** Compile and verify only. */
  readonly dryRun?: boolean;
  readonly printer: Printer;
  readonly observer?: TraceObserver;
}

/** What happens on the way; every method is optional. */
export interface TraceObserver {
  /** Symbols resolved, script compiled and verified, before anything is loaded. */
  compiled?(tracee: Tracee): void;
  armed?(pid: number, report: ArmReport): void;
  /** Everything is attached and counting: `ms` after `attached_probes` was printed. */
  attached?(ms: number): void;
  warning?(text: string): void;
  detached?(pid: number, report: DetachReport): void;
  gone?(pid: number, reason: string): void;
}

export interface TraceResult {
  /** What `exit(n)` gave, else 0; 1 where a process could not be put back as it was (`detached` says what). */
  readonly exitCode: number;
  readonly processes: readonly ProcessInfo[];
  readonly probes: number;
  readonly lostEvents: number;
  readonly detached: readonly DetachReport[];
}

/** Tracing under way. */
export interface Tracing {
  /** Resolves when everything is attached, rejects with the set-up's error. */
  readonly attached: Promise<void>;
  /** Resolves when tracing has ended and everything is restored. */
  readonly finished: Promise<TraceResult>;
  /** Ends as Ctrl-C does: END probes, maps, detach. */
  stop(): void;
  /** Detaches at once: no END probes and no maps. */
  leave(): void;
}

/** So long a command may take until what the script names is loaded. */
const COMMAND_LOAD_MS = 10_000;
/** So long it may take to end after its last listener of `exit`. */
const LAST_MS = 2000;
/** Files that are prepared without a word: each takes some milliseconds. */
const MANY_FILES = 200;
/** How often maps are copied, for the case that the process ends. */
const KEEP_MAPS_MS = 500;
/** Intervals begin when all probes count, and at the latest so long after the first was armed. */
const INTERVALS_MS = 1000;
/** Commands of system() that wait at most; more are lost events. */
const MAX_COMMANDS = 256;
/** Refusals that may pass: nothing matches yet, or the process does not answer yet. */
const NOT_YET: ReadonlySet<string> = new Set(['ENOENT', 'ESIGUSR1', 'ETIMEDOUT']);

/** Traces processes until exit(), stop(), or until they are gone. */
export function trace(options: TraceOptions): Tracing {
  const run = new Run(options);
  const finished = run.run();
  // Either promise may be the one that the caller looks at.
  finished.catch(() => {});
  run.attached.catch(() => {});
  return {
    attached: run.attached,
    finished,
    stop: () => run.stop(),
    leave: () => run.leave(),
  };
}

const EARLY = 'WARNING: tracing ended while probes were being armed: not all of them have counted';

class Run {
  readonly attached: Promise<void>;
  readonly #options: TraceOptions;
  readonly #printer: Printer;
  readonly #observer: TraceObserver;
  readonly #tracees: Tracee[] = [];
  readonly #gone = new Set<Tracee>();
  readonly #armed = new Set<Tracee>();
  /** Events that came while a request (print of a map, clear, frames of a stack) was being answered. */
  readonly #waiting: [Tracee, PrintEvent | RequestEvent | HeldRecord][] = [];
  #busy: Promise<void> | undefined;
  #exitCode = 0;
  #lost = 0;
  /** Events are dropped between exit() and END. */
  #deaf = false;
  #leaving = false;
  #command: LaunchedCommand | undefined;
  /** It waits behind its last listener of `exit`. */
  #commandEnds = false;
  #ending = false;
  #firstOnly = false;
  /** Commands of system() that wait. */
  #commands = 0;
  readonly #left = new AbortController();
  /** The process that intervals run in. */
  #clock: Tracee | undefined;
  #several: SeveralProcesses | undefined;
  #stopped = false;
  readonly #stopping: Promise<void>;
  #stop!: () => void;
  /** Functions of a process are being armed. */
  #attaching = false;
  #setAttached!: { resolve(): void; reject(error: unknown): void };

  constructor(options: TraceOptions) {
    this.#options = options;
    this.#printer = options.printer;
    this.#observer = options.observer ?? {};
    this.attached = new Promise((resolve, reject) => {
      this.#setAttached = { resolve, reject };
    });
    this.#stopping = new Promise((resolve) => {
      this.#stop = resolve;
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#stop();
  }

  leave(): void {
    this.#leaving = true;
    this.#left.abort();
    this.stop();
  }

  async run(): Promise<TraceResult> {
    const detached: DetachReport[] = [];
    try {
      checkTarget(this.#options.target);
      const text = parseText(this.#options);
      await this.#connect(text);
      const probes = this.#tracees.reduce((sum, tracee) => sum + tracee.probeCount, 0);
      if (this.#options.dryRun !== true) {
        await this.#count(probes);
        if (!this.#leaving) await this.#end();
        await this.#letGo();
      } else this.#setAttached.resolve();
      detached.push(...(await this.#detach()));
      await this.#command?.end();
      return {
        exitCode: detached.some(({ failures }) => failures.length > 0) ? 1 : this.#exitCode,
        processes: this.#tracees.map(({ session }) => session.info),
        probes,
        lostEvents: this.#lost,
        detached,
      };
    } catch (error) {
      this.#setAttached.reject(error);
      await this.#detach().catch(() => {});
      await this.#command?.end();
      throw error;
    }
  }

  /** Attaches, and resolves when tracing is to end: exit(), Ctrl-C and the process's end are heard while probes are armed, too. */
  async #count(probes: number): Promise<void> {
    const since = performance.now();
    const keep = setInterval(() => {
      for (const tracee of this.#alive()) tracee.keepMaps().catch(() => {});
    }, KEEP_MAPS_MS);
    try {
      await this.#start(probes);
      const attaching = this.#attach();
      const attached = await Promise.race([attaching, this.#stopping.then(() => false)]);
      // what comes of it now is the detaching's to say
      attaching.catch(() => undefined);
      this.#command?.go();
      this.#setAttached.resolve();
      if (attached) this.#observer.attached?.(performance.now() - since);
      else if (this.#attaching) this.#observer.warning?.(EARLY);
      await this.#stopping;
    } finally {
      clearInterval(keep);
    }
  }

  async #connect(text: ScriptText): Promise<void> {
    const { target } = this.#options;
    if (!('command' in target)) return await this.#prepare(text, target);
    this.#command = await startCommand(target.command);
    const { exited, exiting, hasExited } = this.#command;
    void exited.then(() => this.stop());
    void exiting.then(() => {
      this.#commandEnds = true;
      this.stop();
    });
    const held = await this.#command.held(COMMAND_LOAD_MS);
    if (held === undefined) {
      if (hasExited()) {
        throw new TraplineError('ESRCH', '-c: the command ended before it could be traced', {
          hint: 'it started no Node.js process, or one that ended at once: -c traces the first one',
        });
      }
      throw new TraplineError('ENOTNODE', '-c: the command started no Node.js process');
    }
    const pids = [held.pid];
    const files = this.#filesOf(text, held);
    await held.prepare(files ?? [], text.wantsEnds);
    if (files !== undefined) return await this.#prepare(text, { pids });
    // What the script names cannot be known before it is loaded: as soon as possible then.
    this.#observer.warning?.(
      'WARNING: -c: what the script names is not found before it is loaded: calls until then are not counted',
    );
    this.#command.go();
    const until = performance.now() + COMMAND_LOAD_MS;
    for (;;) {
      try {
        return await this.#prepare(text, { pids });
      } catch (error) {
        if (hasExited()) throw new TraplineError('ESRCH', '-c: the command ended before it could be traced');
        const early = error instanceof TraplineError && NOT_YET.has(error.code);
        if (!early || this.#stopped || performance.now() > until) throw error;
      }
      await sleep(50);
    }
  }

  /** Files with the functions that a script names; undefined where sites in files cannot be all that it needs. */
  #filesOf(text: ScriptText, { cwd, main }: HeldProcess): readonly string[] | undefined {
    const { arm = 'auto' } = this.#options;
    if (!text.needsSymbols) return [];
    if ((arm !== 'auto' && arm !== 'nop') || text.targets.some(isLineTarget)) return undefined;
    // TypeScript that Node runs itself gets no sites: what is found under the same name would be another file
    if (
      main !== undefined &&
      /\.[cm]?ts$/.test(main) &&
      text.targets.some((target) => fileFilter(target)(main))
    )
      return undefined;
    const roots = main === undefined ? [cwd] : [cwd, dirname(main)];
    const files = new Set<string>();
    for (const target of text.targets) {
      const found = findFiles(roots, fileFilter(target));
      if (found.length === 0) return undefined;
      for (const file of found) files.add(file);
    }
    if (files.size > MANY_FILES) {
      this.#observer.warning?.(
        `WARNING: -c: ${files.size} files below ${cwd} are prepared before the program begins: kprobe:FILE:FUNCTION prepares one`,
      );
    }
    return [...files];
  }

  async #prepare(text: ScriptText, target: Exclude<Target, { readonly command: string }>): Promise<void> {
    const relays: EventRelay[] = [];
    const events = () => {
      const relay = new EventRelay();
      relay.handlers = { onWarning: (message) => this.#observer.warning?.(message) };
      relays.push(relay);
      return relay;
    };
    const sessions = await connect(target, events);
    const tracees: Tracee[] = [];
    try {
      const { arm: way = 'auto', maxPauseMs = 100 } = this.#options;
      for (const session of sessions) tracees.push(await Tracee.prepare(session, text, { way, maxPauseMs }));
    } catch (error) {
      const { pid } = sessions[tracees.length]!.info;
      if (sessions.length > 1)
        this.#observer.warning?.(`process ${pid} does not have what the script names:`);
      await Promise.allSettled(sessions.map((session) => session.detach()));
      throw error;
    }
    for (const [index, tracee] of tracees.entries()) {
      this.#tracees.push(tracee);
      this.#listen(relays[index]!, tracee);
      const { pid, workers } = tracee.session.info;
      if (workers > 0) {
        const threads = workers === 1 ? '1 worker thread, which is' : `${workers} worker threads, which are`;
        this.#observer.warning?.(`WARNING: process ${pid} has ${threads} not traced`);
      }
      for (const { message, position, hint } of tracee.script.warnings) {
        const error = new TraplineError('EWARN', message, {
          position: positionIn(text.file, position),
          hint,
        });
        this.#observer.warning?.(formatDiagnostic(error, 'WARNING'));
      }
      this.#observer.compiled?.(tracee);
    }
    this.#several = acrossProcesses(text.ast, text.params);
    if (this.#tracees.length > 1) this.#warnAcross(text, this.#several);
  }

  #warnAcross(text: ScriptText, { reads }: SeveralProcesses): void {
    for (const { name, position } of reads) {
      const error = new TraplineError('EWARN', `${name} is read of one process only: each has its own`, {
        position: positionIn(text.file, position),
        hint: `print(${name}) shows all of them together`,
      });
      this.#observer.warning?.(formatDiagnostic(error, 'WARNING'));
    }
  }

  #listen(relay: EventRelay, tracee: Tracee): void {
    const { pid } = tracee.session.info;
    relay.handlers = {
      onRecord: (record) => this.#receive(tracee, record),
      // While attaching, these are steps; the outcome is what attach() returns.
      onArmed: (report) => {
        if (this.#armed.has(tracee)) this.#observer.armed?.(pid, report);
      },
      onLost: (count) => {
        this.#lost += count;
        this.#printer.lostEvents(count);
      },
      onWarning: (message) => this.#observer.warning?.(message),
      onGone: (reason) => {
        this.#gone.add(tracee);
        // a command that has come to its end is no news
        if (!this.#commandEnds) this.#observer.gone?.(pid, reason);
        if (this.#gone.size === this.#tracees.length) this.stop();
        else if (tracee === this.#clock) void this.#startIntervals().catch((error) => this.#warn(error));
      },
    };
  }

  async #start(probes: number): Promise<void> {
    this.#printer.attachedProbes(probes);
    try {
      for (const tracee of this.#tracees) await tracee.load();
    } catch (error) {
      // `gone` has told of it
      if ((error as { code?: unknown }).code !== 'EGONE') throw error;
      throw new TraplineError('ESRCH', 'the process has exited before it was traced', { cause: error });
    }
    await this.#runSpecial('BEGIN').catch((error) => {
      if (error?.code !== 'EGONE') throw error;
    });
  }

  /** Arms functions, and starts the intervals: behind the first process's, unless that takes long. False when tracing ended meanwhile. */
  async #attach(): Promise<boolean> {
    const { arm = 'auto', maxPauseMs = 100, maxactive = 0 } = this.#options;
    let ticking: Promise<void> | undefined;
    const tick = (): Promise<void> => {
      ticking ??= this.#stopped ? Promise.resolve() : this.#startIntervals();
      return ticking;
    };
    const late = setTimeout(() => void tick().catch((error) => this.#warn(error)), INTERVALS_MS);
    try {
      for (const tracee of this.#tracees) {
        if (this.#stopped) return false;
        this.#attaching = true;
        const reports = await tracee.attach({ way: arm, maxPauseMs, maxactive });
        if (this.#stopped) return false;
        this.#attaching = false;
        await tick();
        this.#armed.add(tracee);
        for (const report of reports) this.#observer.armed?.(tracee.session.info.pid, report);
      }
      return true;
    } finally {
      clearTimeout(late);
    }
  }

  /** Several processes have one clock, as one machine has: the first that is alive. */
  async #startIntervals(): Promise<void> {
    this.#clock = this.#alive()[0];
    await this.#clock?.startIntervals();
  }

  /** BEGIN or END in every process, for what it does to maps; what it prints comes from the first only. */
  async #runSpecial(type: 'BEGIN' | 'END'): Promise<void> {
    this.#firstOnly = true;
    try {
      for (const tracee of this.#alive()) await tracee.runSpecial(type);
      for (const { session } of this.#alive()) await session.flush();
    } finally {
      this.#firstOnly = false;
    }
  }

  async #end(): Promise<void> {
    this.#ending = true;
    // As bpftrace does: END sees maps that no probe changes any more.
    for (const { session } of this.#alive()) await session.disable?.().catch((error) => this.#warn(error));
    await this.#settle();
    if (this.#leaving) return;
    this.#deaf = false;
    await this.#runSpecial('END').catch((error) => this.#warn(error));
    await this.#settle();
    const [first] = this.#tracees;
    if (first === undefined) return;
    this.#printer.end();
    if (first.script.config.printMapsOnExit) {
      // in bpftrace's order
      const maps = [...first.script.maps.entries()].filter(([, { name }]) => name !== undefined);
      maps.sort(([, a], [, b]) => (a.name! < b.name! ? -1 : 1));
      for (const [index] of maps) {
        await this.#printMap(index, 0, 0).catch((error) => this.#warn(error));
      }
    }
    for (const tracee of this.#alive()) await this.#reportFaults(tracee).catch((error) => this.#warn(error));
  }

  /** Everything that programs have written so far is printed when this resolves. */
  async #settle(): Promise<void> {
    for (const tracee of this.#alive()) await tracee.session.flush().catch((error) => this.#warn(error));
    while (this.#busy !== undefined) await this.#busy;
  }

  /** A command that waits at its exit goes on, and has gone then. */
  async #letGo(): Promise<void> {
    if (this.#command === undefined) return;
    this.#command.letGo();
    if (!this.#commandEnds) return;
    await Promise.race([this.#command.exited, sleep(LAST_MS, undefined, { ref: false })]);
    // what its end tells comes with the next turns
    await sleep(1);
  }

  async #detach(): Promise<DetachReport[]> {
    const reports: DetachReport[] = [];
    for (const tracee of this.#alive()) {
      try {
        const report = await tracee.session.detach();
        reports.push(report);
        this.#observer.detached?.(tracee.session.info.pid, report);
      } catch (error) {
        if (!this.#gone.has(tracee)) throw error;
      }
    }
    return reports;
  }

  #alive(): Tracee[] {
    return this.#tracees.filter((tracee) => !this.#gone.has(tracee));
  }

  #receive(tracee: Tracee, record: DataView): void {
    if (this.#deaf || (this.#firstOnly && tracee !== this.#alive()[0])) return;
    if (tracee.lacksFrames(record)) {
      // the record's bytes are the ring's
      const bytes = new Uint8Array(record.buffer, record.byteOffset, record.byteLength).slice();
      this.#wait(tracee, { kind: 'held', record: new DataView(bytes.buffer) });
      return;
    }
    const event = tracee.decode(record);
    if (event.kind === 'exit') {
      if (this.#ending) return;
      this.#exitCode = event.code & 0xff;
      this.#deaf = true;
      this.stop();
    } else if (event.kind === 'system' && this.#commands >= MAX_COMMANDS) {
      this.#lost++;
      this.#printer.lostEvents(1);
    } else if (this.#busy === undefined && !isRequest(event)) this.#print(tracee, event);
    else {
      if (event.kind === 'system') this.#commands++;
      this.#wait(tracee, event);
    }
  }

  #wait(tracee: Tracee, event: PrintEvent | RequestEvent | HeldRecord): void {
    this.#waiting.push([tracee, event]);
    this.#busy ??= this.#work();
  }

  /** Requests take a round trip; what comes meanwhile keeps its place behind them. */
  async #work(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const [tracee, waiting] = next;
      const event = waiting.kind === 'held' ? await this.#complete(tracee, waiting.record) : waiting;
      // who leaves at once wants nothing more, and asks for nothing more
      if (this.#leaving) continue;
      if (isRequest(event)) await this.#answer(event).catch((error) => this.#warn(error));
      else this.#print(tracee, event);
    }
    this.#busy = undefined;
  }

  /** A record whose stacks are numbers yet, with their frames, or without them where the process has gone. */
  async #complete(tracee: Tracee, record: DataView): Promise<PrintEvent | RequestEvent> {
    if (tracee.lacksFrames(record) && !this.#leaving) await tracee.session.flush().catch(() => {});
    const event = tracee.decode(record);
    if (event.kind === 'system') this.#commands++;
    return event as PrintEvent | RequestEvent;
  }

  async #answer(event: RequestEvent): Promise<void> {
    if (event.kind === 'system') {
      this.#commands--;
      this.#printer.syscall(await runShell(event.text, this.#left.signal));
      return;
    }
    if (event.kind === 'print_map') return await this.#printMap(event.map, event.top, event.div);
    for (const { session } of this.#alive()) {
      await (event.kind === 'clear' ? session.clearMap(event.map) : session.zeroMap(event.map));
    }
  }

  #print(tracee: Tracee, event: PrintEvent): void {
    switch (event.kind) {
      case 'printf':
        this.#printer.printf(event.text);
        break;
      case 'time':
        this.#printer.time(event.text);
        break;
      case 'value':
        this.#printer.value(event.value);
        break;
      case 'error':
        this.#warnAt(tracee, event.position, event.message);
        break;
      case 'unknown':
        this.#observer.warning?.(`a record has the unknown action ${event.action}`);
        break;
    }
  }

  /** A map of all processes: each process is more CPUs. */
  async #printMap(index: number, top: number, div: number): Promise<void> {
    const map = this.#tracees[0]?.script.maps[index];
    if (map === undefined) return;
    const entries: RawMapEntry[] = [];
    for (const tracee of this.#tracees)
      entries.push(...(await tracee.readMap(index, this.#gone.has(tracee))));
    const additive = map.name !== undefined && this.#several?.additive.has(map.name) === true;
    this.#printer.map(printedMap(map, entries, { top, div, additive }));
  }

  async #reportFaults(tracee: Tracee): Promise<void> {
    for (const { position, errno, count } of await tracee.faults()) {
      const times = count === 1 ? 'once' : `${count} times`;
      this.#warnAt(tracee, position, `a value could not be read, ${times}: ${faultReason(errno)}`);
    }
    const missed = (await tracee.session.siteStats()).reduce((sum, { nmissed }) => sum + nmissed, 0);
    if (missed === 0) return;
    const hits = missed === 1 ? '1 hit was' : `${missed} hits were`;
    this.#observer.warning?.(
      `WARNING: ${hits} missed: calls under way while their probe was armed, re-entry, or more than --maxactive`,
    );
  }

  #warnAt({ script }: Tracee, index: number, message: string): void {
    const { line = 1, column = 1 } = script.positions[index] ?? {};
    this.#printer.warning({ message, file: script.file, line, column });
  }

  #warn(error: unknown): void {
    if (this.#leaving) return;
    this.#observer.warning?.(error instanceof Error ? error.message : String(error));
  }
}

/** Of callers in JavaScript. Whether there is such a process is seen later. */
function checkTarget(target: Target): void {
  if ('pids' in target && target.pids.length > 0) return;
  if ('command' in target || 'self' in target) return;
  throw new TraplineError('EINVAL', 'no process to trace', {
    hint: 'target is { pids: [4711] }, { command: "node app.js" } or { self: true }',
  });
}

/** A record that cannot be shown before frames of stacks have been fetched: none of `exit`. */
interface HeldRecord {
  readonly kind: 'held';
  readonly record: DataView;
}

type PrintEvent = Exclude<RecordEvent, { kind: 'exit' | RequestEvent['kind'] }>;
type RequestEvent = Extract<RecordEvent, { kind: (typeof REQUESTS)[number] }>;

/** What the tracer has to do something for. */
const REQUESTS = ['print_map', 'clear', 'zero', 'system'] as const;

function isRequest(event: RecordEvent): event is RequestEvent {
  return (REQUESTS as readonly string[]).includes(event.kind);
}

const FAULTS: Record<string, string> = {
  EFAULT: 'no plain value is there (a getter, a Proxy, or a property of null or undefined)',
  EINVAL: 'it is of another type',
  ENOENT: 'there is no such property',
  ESTALE: 'it belonged to an earlier hit',
  E2BIG: 'it is too large',
};

function faultReason(errno: number): string {
  let name = `errno ${errno}`;
  try {
    name = getSystemErrorName(-Math.abs(errno));
  } catch {
    // A number that is none of the system's.
  }
  return FAULTS[name] === undefined ? name : `${FAULTS[name]} (${name})`;
}
