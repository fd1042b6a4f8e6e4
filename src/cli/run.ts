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
/** How often maps are copied, for the case that the process ends. */
const KEEP_MAPS_MS = 500;
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

class Run {
  readonly attached: Promise<void>;
  readonly #options: TraceOptions;
  readonly #printer: Printer;
  readonly #observer: TraceObserver;
  readonly #tracees: Tracee[] = [];
  readonly #gone = new Set<Tracee>();
  readonly #armed = new Set<Tracee>();
  /** Events that came while a request (print of a map, clear) was being answered. */
  readonly #waiting: [Tracee, PrintEvent | RequestEvent][] = [];
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
  #wake: (() => void) | undefined;
  #stopped = false;
  #setAttached!: { resolve(): void; reject(error: unknown): void };

  constructor(options: TraceOptions) {
    this.#options = options;
    this.#printer = options.printer;
    this.#observer = options.observer ?? {};
    this.attached = new Promise((resolve, reject) => {
      this.#setAttached = { resolve, reject };
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }

  leave(): void {
    this.#leaving = true;
    this.#left.abort();
    this.stop();
  }

  async run(): Promise<TraceResult> {
    const detached: DetachReport[] = [];
    try {
      const text = parseText(this.#options);
      await this.#connect(text);
      const probes = this.#tracees.reduce((sum, tracee) => sum + tracee.probeCount, 0);
      if (this.#options.dryRun !== true) {
        const since = performance.now();
        await this.#start(probes);
        const ms = performance.now() - since;
        this.#command?.go();
        this.#setAttached.resolve();
        this.#observer.attached?.(ms);
        await this.#untilStopped();
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
    const roots = main === undefined ? [cwd] : [cwd, dirname(main)];
    const files = new Set<string>();
    for (const target of text.targets) {
      const found = findFiles(roots, fileFilter(target));
      if (found.length === 0) return undefined;
      for (const file of found) files.add(file);
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
    if (this.#tracees.length > 1) this.#lookAcross(text);
  }

  #lookAcross(text: ScriptText): void {
    this.#several = acrossProcesses(text.ast, text.params);
    for (const { name, position } of this.#several.reads) {
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
      onRecord: (record) => this.#receive(tracee, tracee.decode(record)),
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
    const { arm = 'auto', maxPauseMs = 100, maxactive = 0 } = this.#options;
    this.#printer.attachedProbes(probes);
    for (const tracee of this.#tracees) await tracee.load();
    await this.#runSpecial('BEGIN');
    for (const [index, tracee] of this.#tracees.entries()) {
      if (this.#stopped) return;
      const reports = await tracee.attach({ way: arm, maxPauseMs, maxactive });
      if (index === 0) await this.#startIntervals();
      this.#armed.add(tracee);
      for (const report of reports) this.#observer.armed?.(tracee.session.info.pid, report);
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

  async #untilStopped(): Promise<void> {
    if (this.#stopped) return;
    const keep = setInterval(() => {
      for (const tracee of this.#alive()) tracee.keepMaps().catch(() => {});
    }, KEEP_MAPS_MS);
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    clearInterval(keep);
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

  #receive(tracee: Tracee, event: RecordEvent): void {
    if (this.#deaf || (this.#firstOnly && tracee !== this.#alive()[0])) return;
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
      this.#waiting.push([tracee, event]);
      this.#busy ??= this.#work();
    }
  }

  /** Requests take a round trip; what comes meanwhile keeps its place behind them. */
  async #work(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const [tracee, event] = next;
      if (isRequest(event)) await this.#answer(event).catch((error) => this.#warn(error));
      else this.#print(tracee, event);
    }
    this.#busy = undefined;
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
    this.#observer.warning?.(error instanceof Error ? error.message : String(error));
  }
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
