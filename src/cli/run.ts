import { setTimeout as sleep } from 'node:timers/promises';
import { checkArgument } from '../arguments.ts';
import { formatDiagnostic, TraplineError } from '../errors.ts';
import { acrossProcesses } from '../lang/index.ts';
import type { Printer } from '../output/index.ts';
import { endedBefore, type LaunchedCommand } from '../target/launch.ts';
import type { DetachReport } from '../target/session.ts';
import { holdCommand, interrupted } from './command.ts';
import { connect } from './connect.ts';
import { faultsOf, missedOf, unloadedOf } from './faults.ts';
import { filesToPrepare } from './launch-plan.ts';
import { compileFor, parseText, positionIn, type ScriptText } from './pipeline.ts';
import { Records } from './records.ts';
import {
  checkTarget,
  type Target,
  TRACE_OPTIONS,
  type TraceObserver,
  type TraceOptions,
  type TraceResult,
  type Tracing,
} from './trace-options.ts';
import { EventRelay, Tracee } from './tracee.ts';
import { Tracees } from './tracees.ts';

export type { Target, TraceObserver, TraceOptions, TraceResult, Tracing } from './trace-options.ts';

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
/** Refusals that may pass: nothing matches yet, or the process does not answer yet. */
const NOT_YET: ReadonlySet<string> = new Set(['ENOENT', 'ESIGUSR1', 'ETIMEDOUT']);

/** Traces processes until exit(), stop(), or until they are gone. */
export function trace(options: TraceOptions): Tracing {
  checkArgument('trace()', 'options', options, TRACE_OPTIONS);
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
  readonly #tracees = new Tracees();
  readonly #armed = new Set<Tracee>();
  readonly #records: Records;
  #exitCode = 0;
  readonly #left = new AbortController();
  #command: LaunchedCommand | undefined;
  /** It waits behind its last listener of `exit`. */
  #commandEnds = false;
  /** The process that intervals run in. */
  #clock: Tracee | undefined;
  #stopped = false;
  readonly #stopping: Promise<void>;
  #setStopping!: () => void;
  /** Nothing counts yet: who stops now interrupts. */
  #preparing = true;
  readonly #interrupt = new AbortController();
  /** Functions of a process are being armed. */
  #attaching = false;
  /** Who traces has ended it, not the script. */
  #asked = false;
  #setAttached!: { resolve(): void; reject(error: unknown): void };

  constructor(options: TraceOptions) {
    this.#options = options;
    this.#printer = options.printer;
    this.#observer = options.observer ?? {};
    this.#records = new Records({
      printer: options.printer,
      tracees: this.#tracees,
      left: this.#left.signal,
      exit: (code) => {
        this.#exitCode = code;
        this.#halt();
      },
      warning: (text) => this.#warning(text),
    });
    this.attached = new Promise((resolve, reject) => {
      this.#setAttached = { resolve, reject };
    });
    this.#stopping = new Promise((resolve) => {
      this.#setStopping = resolve;
    });
  }

  stop(): void {
    this.#asked = true;
    if (this.#preparing) this.#interrupt.abort();
    this.#halt();
  }

  leave(): void {
    this.#left.abort();
    this.stop();
  }

  #halt(): void {
    this.#stopped = true;
    this.#setStopping();
  }

  get #leaving(): boolean {
    return this.#left.signal.aborted;
  }

  #warning(text: string): void {
    this.#observer.warning?.(text);
  }

  async run(): Promise<TraceResult> {
    const detached: DetachReport[] = [];
    try {
      checkTarget(this.#options.target);
      const text = parseText(this.#options);
      await this.#connect(text);
      this.#interrupt.signal.throwIfAborted();
      this.#preparing = false;
      const probes = this.#tracees.all.reduce((sum, tracee) => sum + tracee.probeCount, 0);
      if (this.#options.dryRun !== true) {
        await this.#count(probes);
        if (!this.#leaving) await this.#end();
        await this.#letGo();
      } else this.#setAttached.resolve();
      detached.push(...(await this.#detach()));
      await this.#command?.end();
      return {
        exitCode: detached.some(({ failures }) => failures.length > 0) ? 1 : this.#exitCode,
        processes: this.#tracees.all.map(({ session }) => session.info),
        probes,
        lostEvents: this.#records.lost,
        detached,
      };
    } catch (error) {
      await this.#detach().catch(() => {});
      await this.#command?.end();
      // whatever an interruption has broken off; a command may have heard of that first
      const told = this.#interrupt.signal.aborted ? interrupted() : error;
      this.#setAttached.reject(told);
      throw told;
    }
  }

  /** Attaches, and resolves when tracing is to end: exit(), Ctrl-C and the process's end are heard while probes are armed, too. */
  async #count(probes: number): Promise<void> {
    const since = performance.now();
    const keep = setInterval(() => {
      for (const tracee of this.#tracees.alive) tracee.keepMaps().catch(() => {});
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
      else if (this.#attaching || (this.#asked && this.#armsAny)) this.#warning(EARLY);
      await this.#stopping;
    } finally {
      clearInterval(keep);
    }
  }

  /** Whether there is anything to arm but BEGIN, END and intervals. */
  get #armsAny(): boolean {
    return this.#tracees.all.some(({ arms }) => arms);
  }

  async #connect(text: ScriptText): Promise<void> {
    const { target } = this.#options;
    if (!('command' in target)) return await this.#prepare(text, target);
    const { command, held } = await holdCommand(target.command, 'traced', this.#interrupt);
    this.#command = command;
    const { exited, exiting, hasExited } = command;
    void exited.then(() => this.#halt());
    void exiting.then(() => {
      this.#commandEnds = true;
      this.#halt();
    });
    const pids = [held.pid];
    const files = filesToPrepare(text, held, this.#options.arm);
    if (files !== undefined && files.length > MANY_FILES) {
      this.#warning(
        `WARNING: -c: ${files.length} files below ${held.cwd} are prepared before the program begins: kprobe:FILE:FUNCTION prepares one`,
      );
    }
    await held.prepare(files ?? [], text.wantsEnds);
    if (files !== undefined) return await this.#prepare(text, { pids });
    if (this.#options.dryRun === true) {
      // Nothing of the program runs: what it would load is taken for granted.
      compileFor(text, undefined);
      return;
    }
    // What the script names cannot be known before it is loaded: as soon as possible then.
    this.#warning(
      'WARNING: -c: what the script names is not found before it is loaded: calls until then are not counted',
    );
    command.go();
    const until = performance.now() + COMMAND_LOAD_MS;
    for (;;) {
      try {
        return await this.#prepare(text, { pids });
      } catch (error) {
        if (hasExited()) throw endedBefore('traced');
        const early = error instanceof TraplineError && NOT_YET.has(error.code);
        if (!early || this.#stopped || performance.now() > until) throw error;
      }
      await sleep(50);
    }
  }

  async #prepare(text: ScriptText, target: Exclude<Target, { readonly command: string }>): Promise<void> {
    const relays: EventRelay[] = [];
    const events = () => {
      const relay = new EventRelay();
      relay.handlers = { onWarning: (message) => this.#warning(message) };
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
      if (sessions.length > 1) this.#warning(`process ${pid} does not have what the script names:`);
      await Promise.allSettled(sessions.map((session) => session.detach()));
      throw error;
    }
    for (const [index, tracee] of tracees.entries()) {
      this.#tracees.all.push(tracee);
      this.#listen(relays[index]!, tracee);
      const { pid, workers } = tracee.session.info;
      if (workers > 0) {
        const threads = workers === 1 ? '1 worker thread, which is' : `${workers} worker threads, which are`;
        this.#warning(`WARNING: process ${pid} has ${threads} not traced`);
      }
      for (const { message, position, hint } of tracee.script.warnings)
        this.#warnOf(text, message, position, hint);
      this.#observer.compiled?.(tracee);
    }
    const several = acrossProcesses(text.ast, text.params);
    this.#records.several = several;
    if (tracees.length === 1) return;
    for (const { name, position } of several.reads) {
      const message = `${name} is read of one process only: each has its own`;
      this.#warnOf(text, message, position, `print(${name}) shows all of them together`);
    }
  }

  #warnOf(
    { file }: ScriptText,
    message: string,
    position: Parameters<typeof positionIn>[1],
    hint: string | undefined,
  ): void {
    const warning = new TraplineError('EWARN', message, { position: positionIn(file, position), hint });
    this.#warning(formatDiagnostic(warning, 'WARNING'));
  }

  #listen(relay: EventRelay, tracee: Tracee): void {
    const { pid } = tracee.session.info;
    relay.handlers = {
      onRecord: (record) => this.#records.receive(tracee, record),
      // While attaching, these are steps; the outcome is what attach() returns.
      onArmed: (report) => {
        if (this.#armed.has(tracee)) this.#observer.armed?.(pid, report);
      },
      onLost: (count) => this.#records.lose(count),
      onWarning: (message) => this.#warning(message),
      onGone: (reason) => {
        const last = this.#tracees.lose(tracee);
        // a command that has come to its end is no news
        if (!this.#commandEnds) this.#observer.gone?.(pid, reason);
        if (last) this.#halt();
        else if (tracee === this.#clock)
          void this.#startIntervals().catch((error) => this.#records.warn(error));
      },
    };
  }

  async #start(probes: number): Promise<void> {
    this.#printer.attachedProbes(probes);
    try {
      for (const tracee of this.#tracees.all) await tracee.load();
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
    const { arm = 'auto', maxPauseMs = 100, maxactive = 0, unsafe = false } = this.#options;
    let ticking: Promise<void> | undefined;
    const tick = (): Promise<void> => {
      ticking ??= this.#stopped ? Promise.resolve() : this.#startIntervals();
      return ticking;
    };
    const late = setTimeout(() => void tick().catch((error) => this.#records.warn(error)), INTERVALS_MS);
    try {
      for (const tracee of this.#tracees.all) {
        if (this.#stopped) return false;
        this.#attaching = true;
        const reports = await tracee.attach({ way: arm, maxPauseMs, maxactive, unsafe });
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
    this.#clock = this.#tracees.alive[0];
    await this.#clock?.startIntervals();
  }

  /** BEGIN or END in every process, for what it does to maps; what it prints comes from the first only. */
  async #runSpecial(type: 'BEGIN' | 'END'): Promise<void> {
    this.#records.firstOnly = true;
    try {
      for (const tracee of this.#tracees.alive) await tracee.runSpecial(type);
      for (const { session } of this.#tracees.alive) await session.flush();
    } finally {
      this.#records.firstOnly = false;
    }
  }

  async #end(): Promise<void> {
    const records = this.#records;
    records.ending = true;
    // As bpftrace does: END sees maps that no probe changes any more.
    for (const { session } of this.#tracees.alive)
      await session.disable?.().catch((error) => records.warn(error));
    await records.settle();
    if (this.#leaving) return;
    records.deaf = false;
    await this.#runSpecial('END').catch((error) => records.warn(error));
    await records.settle();
    const [first] = this.#tracees.all;
    if (first === undefined) return;
    this.#printer.end();
    if (first.script.config.printMapsOnExit) {
      // in bpftrace's order
      const maps = [...first.script.maps.entries()].filter(([, { name }]) => name !== undefined);
      maps.sort(([, a], [, b]) => (a.name! < b.name! ? -1 : 1));
      for (const [index] of maps) await records.printMap(index, 0, 0).catch((error) => records.warn(error));
    }
    for (const tracee of this.#tracees.alive)
      await this.#report(tracee).catch((error) => records.warn(error));
  }

  /** What a process's counts leave out. */
  async #report(tracee: Tracee): Promise<void> {
    for (const { position, message } of await faultsOf(tracee))
      this.#records.warnAt(tracee, position, message);
    for (const text of await missedOf(tracee)) this.#warning(text);
    if (this.#command === undefined) return;
    for (const text of await unloadedOf(tracee)) this.#warning(text);
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
    for (const tracee of this.#tracees.alive) {
      try {
        const report = await tracee.session.detach();
        reports.push(report);
        this.#observer.detached?.(tracee.session.info.pid, report);
      } catch (error) {
        if (!this.#tracees.isGone(tracee)) throw error;
      }
    }
    return reports;
  }
}
