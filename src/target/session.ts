import type { PrintkCall, ReadFault, SiteEvent, SiteStats } from '../agent/protocol.ts';
import type { ArmReport, ArmWay, FunctionSymbol } from '../arch/v8/types.ts';
import type { MapSpec, VerifiedProgram } from '../bpf/index.ts';
import type { PropertyPath } from '../kernel/trace/js-kfuncs.ts';
import type { EventDescription } from '../kernel/tracepoint/runtime-events.ts';

export interface ProcessInfo {
  readonly pid: number;
  readonly nodeVersion: string;
  readonly v8Version: string;
  readonly title: string;
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly heapUsedBytes: number;
  /** trapline/register is active in the process. */
  readonly prepared: boolean;
  /** Worker threads that the application had when the session began; they are not traced. */
  readonly workers: number;
  /** CLOCK_MONOTONIC nanoseconds of the process's first hrtime, to turn nsecs into wall time. */
  readonly monotonicToRealtimeNs: bigint;
}

export interface LoadSpec {
  readonly maps: readonly MapSpec[];
  readonly programs: readonly LoadedProgram[];
  readonly paths: readonly PropertyPath[];
  readonly usesAsyncId: boolean;
  /** Bytes for maps that come later (addMaps()); 0 by default. */
  readonly reserve?: number;
}

/** A program, and of one whose context is no pt_regs: the number of the program that makes it, in the only value of an array map. */
export type LoadedProgram = VerifiedProgram & {
  readonly context?: { readonly by: number; readonly map: number };
};

/** One program on one place. */
export interface AttachRequest {
  readonly program: number;
  readonly event: SiteEvent;
  readonly cookie: number;
  readonly at:
    | { readonly kind: 'function'; readonly symbol: FunctionSymbol }
    /** A statement inside a function: line and column from 1, in the original file. */
    | {
        readonly kind: 'line';
        readonly symbol: FunctionSymbol;
        readonly line: number;
        readonly column: number;
      }
    /** An event of the process; its programs are `entry` ones, whose arguments are the event's values. */
    | { readonly kind: 'event'; readonly event: EventPlace };
}

/** An event of a process, for a program to sit on. */
export interface EventPlace {
  /** As messages call it: `tracepoint:http:server_request_start`. */
  readonly name: string;
  /** As the process finds it: `http:server_request_start`, `raw:http.server.request.start`. */
  readonly source: string;
}

/** What a process has of events. */
export interface ProcessEvents {
  /** Those of its runtime, then those that its code defines. */
  readonly events: readonly EventDescription[];
  /** The channels of node:diagnostics_channel that are known to exist. */
  readonly channels: readonly string[];
}

export interface ArmOptions {
  readonly way: 'auto' | ArmWay;
  readonly maxPauseMs: number;
  readonly maxactive: number;
  /** False: no breakpoints, which cost a tenth of a millisecond a hit, where nothing else is left. */
  readonly breakpoints?: boolean;
  /** Live edits too that would mix up the application's closures or end it (V8 13 and later), with a warning. `way: 'edit'` asks for that, too. */
  readonly unsafe?: boolean;
}

export interface DetachReport {
  readonly functionsRestored: number;
  readonly bytesRestored: number;
  /** Longest stop of the event loop that arming and disarming caused, in ms, as measured in the target. */
  readonly longestPauseMs: number;
  readonly pausesMs: readonly number[];
  /** What could not be put back; empty when the process is as it was. */
  readonly failures: readonly NotRestored[];
}

/** Something in the process that stays as the session made it. */
export interface NotRestored {
  /** `the edited text`, `the replaced binding`, … */
  readonly what: string;
  /** Probed functions and lines that it belongs to, as messages call them; empty where it belongs to the whole session. */
  readonly functions: readonly string[];
  readonly reason: string;
}

/** What a session tells; what nobody listens to is dropped. */
export interface SessionEvents {
  /** A whole record of a ring buffer, which is the map with this index; the view is valid for the call only. */
  onRecord?(record: DataView, ring: number): void;
  onArmed?(report: ArmReport): void;
  /** Ring records that found no room, since the last call. */
  onLost?(count: number): void;
  onWarning?(message: string): void;
  /** A program called bpf_trace_printk(); undefined: more than can be told. */
  onPrint?(call: PrintkCall | undefined): void;
  /** The target exited or the connection broke. */
  onGone?(reason: string): void;
}

export interface ListOptions {
  /** A listing that would stop the process for longer (it needs the debugger) is refused with EMAXPAUSE; 100 by default. */
  readonly maxPauseMs?: number;
  /**
   * Asked with the functions of the CommonJS modules that are wanted, from their files: true when these are all that is needed.
   * No debugger is used then.
   */
  readonly enough?: (symbols: readonly FunctionSymbol[]) => boolean;
}

/** A place that stays armed until the session ends; what it runs can be changed. */
export interface AttachedSite {
  readonly report: ArmReport;
  /** The events that it was armed for; setPrograms() may name these only. */
  readonly events: readonly SiteEvent[];
  /** Whether programs of these numbers read nothing but what it was armed for. */
  covers(programs: readonly number[]): boolean;
  /** Other programs in the place of those it has; none disables it: a hit then costs a test. */
  setPrograms(programs: readonly Pick<AttachRequest, 'program' | 'event' | 'cookie'>[]): Promise<void>;
  /** Hits, and those that were lost, since it was armed. */
  stats(): Promise<SiteStats | undefined>;
}

/** A session with one traced process. Every method rejects with a TraplineError. */
export interface TraceSession {
  readonly info: ProcessInfo;
  /**
   * Functions of the scripts that are loaded; with `wanted`, of those only whose path, as V8 or a source map has it, it says
   * yes to. The others are not even fetched.
   */
  functions(wanted?: (path: string) => boolean, options?: ListOptions): Promise<readonly FunctionSymbol[]>;
  /** Those of files that were prepared before they were loaded (`-c`), and have not been since, or with another text. */
  unloaded?(symbols: readonly FunctionSymbol[]): Promise<readonly FunctionSymbol[]>;
  /**
   * The events that programs can sit on; with `channels`, V8 is asked for those that exist, which collects garbage: refused with EMAXPAUSE
   * where that would stop the process for longer than `maxPauseMs` (100 by default).
   */
  events?(options?: { readonly channels?: boolean; readonly maxPauseMs?: number }): Promise<ProcessEvents>;
  load(spec: LoadSpec): Promise<void>;
  attach(requests: readonly AttachRequest[], options: ArmOptions): Promise<readonly ArmReport[]>;
  /**
   * More programs behind those of load(), which use its maps; `paths` is the whole table of property paths, those that were
   * known first. Answers with the number of the first one.
   */
  addPrograms?(programs: readonly VerifiedProgram[], paths: readonly PropertyPath[]): Promise<number>;
  /**
   * More maps behind those of load(), for programs that are added later. Answers with the index of the first one. ENOMEM where the
   * reserve is used up.
   */
  addMaps?(maps: readonly MapSpec[]): Promise<number>;
  /** Arms one place for programs that may come and go. */
  attachSite?(requests: readonly AttachRequest[], options: ArmOptions): Promise<AttachedSite>;
  /** The same of many places, armed together; those that could not be armed have no way in their report. */
  attachSites?(requests: readonly AttachRequest[], options: ArmOptions): Promise<readonly AttachedSite[]>;
  /** Runs a program on the agent's worker thread (BEGIN, END). */
  runOnce(program: number): Promise<void>;
  /** Runs a program on the agent's worker every period. */
  startInterval(program: number, periodNs: number, cookie: number): Promise<void>;
  /** Runs a program on the main thread `frequency` times a second while JavaScript runs. */
  startProfile(program: number, periodNs: number, cookie: number): Promise<void>;
  /** Every entry: key bytes, then one value per CPU (one for maps that are not per-CPU). */
  readMap(index: number): Promise<readonly { key: Uint8Array; values: readonly Uint8Array[] }[]>;
  /** bpf_map_update_elem() and bpf_map_delete_elem(): 0 or -errno. */
  updateMap?(index: number, key: Uint8Array, value: Uint8Array, flags?: number): Promise<number>;
  deleteKey?(index: number, key: Uint8Array): Promise<number>;
  /** Deletes every entry. */
  clearMap(index: number): Promise<void>;
  /** Sets every value to zero. */
  zeroMap(index: number): Promise<void>;
  stack(id: number): readonly string[] | undefined;
  /** Failed reads since the last call. */
  faults(): Promise<readonly ReadFault[]>;
  siteStats(): Promise<readonly SiteStats[]>;
  /** Everything in the rings has been delivered to onRecord when this resolves. */
  flush(): Promise<void>;
  /** Probes on functions and lines run no program any more; maps and rings stay readable until detach(). */
  disable?(): Promise<void>;
  detach(): Promise<DetachReport>;
}
