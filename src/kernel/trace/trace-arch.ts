import type { HitConsumers } from './hit-plan.ts';
import type { FetchInsn } from './probe/fetch-insn.ts';
import type { TraceRecord } from './trace-entry.ts';
import type { EventTrigger } from './trace-event-file.ts';

/** A symbol of the text space (kallsyms). */
export interface KallsymsSymbol {
  readonly name: string;
  readonly address: bigint;
  readonly size: number;
  /** The module it is in; undefined for the core text. */
  readonly module: string | undefined;
  /** Cannot be probed (`kprobes/blacklist`). */
  readonly blacklisted?: boolean;
  /** It is data: no code that could be probed. */
  readonly data?: boolean;
  /** Whether an entry probe may sit here: the ftrace location. */
  readonly entry?: boolean;
  /** Parameter names and C types, where known (what BTF tells the kernel). */
  readonly params?: readonly { readonly name: string; readonly type: string }[];
  readonly returnType?: string;
}

/** A member of a struct or union, as BTF describes it. One without a name has `members` of its own. */
export interface TypeMember {
  readonly name: string;
  readonly type: string;
  readonly bitOffset: number;
  /** Of a bit field. */
  readonly bitSize?: number;
  readonly members?: readonly TypeMember[];
}

/** What a type's name stands for: `struct file`, `loff_t`. */
export type TypeDescription =
  | { readonly kind: 'alias'; readonly type: string }
  | {
      readonly kind: 'struct';
      readonly members: readonly TypeMember[];
      /** Bytes, where known. */
      readonly size?: number;
    };

/** An argument of a tracepoint. */
export interface ProbeParam {
  readonly name: string;
  readonly type: string;
  /** Of a JavaScript value that is no argument itself: the property of the value (from 0) that it is. */
  readonly arg?: number;
  readonly path?: readonly string[];
  /** The fetch type that it is shown by where a definition names none. */
  readonly fetchType?: string;
}

/** A tracepoint that a `t` probe may sit on. */
export interface ProbeTracepoint {
  /** Its arguments without the leading data pointer. */
  readonly params?: readonly ProbeParam[];
  /** The address that its records show as where they come from. */
  readonly address: bigint;
  /** One `t` probe at a time may sit on it, as on Linux 6.12; another is refused with EEXIST. */
  readonly exclusive?: boolean;
  /** Starts calling `hit`; the context's arguments are the tracepoint's. `at` as armProbe() takes it. The answer stops it. */
  arm(
    hit: ProbeHit,
    at?: {
      readonly code?: readonly (readonly FetchInsn[])[];
      readonly consumers?: HitConsumers;
    },
  ): ArmedProbe;
}

/** An armed probe: calling it disarms. */
export interface ArmedProbe {
  (): void;
  /** Hits that were lost. */
  readonly missed?: number;
  /** Hits that nobody wanted to hear of, as far as is known. */
  readonly unsent?: number;
}

/** Memory and registers at a hit, for fetch arguments that run here and not in a program. */
export interface ProbeContext {
  /** By the names of x86-64 `struct pt_regs`: di, si, ..., ax, ip, sp. */
  register(name: string): bigint;
  /** Copies `length` bytes; undefined on a fault. */
  read(address: bigint, length: number): Uint8Array | undefined;
  /** A NUL-terminated string of at most `max` bytes with the NUL; undefined on a fault. */
  readString(address: bigint, max: number): Uint8Array | undefined;
  /**
   * The value at a property path of argument `arg` (from 0; -1 the return value): a number, or the text of a string. `insn` is
   * the instruction that asks, one of those that armProbe() was told in `code`.
   */
  property?(arg: number, path: readonly string[], insn: FetchInsn): bigint | string | undefined;
  /** Of a return probe: what argument `arg` (from 0), one of its `entryArgs`, was at entry. */
  entryValue?(arg: number): bigint;
  /** The current task's comm; `TraceArch.current()` where it is not given. */
  readonly comm?: string;
  /** Addresses of the stack at the hit, the innermost first, where somebody wants them (HitPlan.stack). */
  readonly stack?: readonly bigint[];
}

/** `counted`: triggers of the event that have seen this hit already (HitConsumers). */
export type ProbeHit = (
  context: ProbeContext,
  cpu: number,
  ts: bigint,
  pid: number,
  counted?: ReadonlySet<EventTrigger>,
) => void;

/** What is seen of a call when functions are traced. */
export interface FunctionCall {
  readonly what: 'entry' | 'return' | 'settle';
  /** The function's. */
  readonly address: bigint;
  readonly cpu: number;
  /** Nanoseconds of the clock `local`. */
  readonly ts: bigint;
  readonly pid: number;
  /** It ended by an exception, or its promise was rejected. */
  readonly failed: boolean;
  /** Of an entry: the addresses it was called from, the innermost first, as many as are wanted and known. */
  readonly callers?: readonly bigint[];
  /** Of a return: what it returned, as a register holds it. */
  readonly retval?: bigint;
}

/** What somebody wants to know of calls. */
export interface FunctionWants {
  /** Their ends. */
  readonly returns: boolean;
  /** When what asynchronous ones promised is there. */
  readonly settles: boolean;
  /** How many addresses of who called: 1 is the caller alone. */
  readonly callers: number;
  /** What they return. */
  readonly retvals: boolean;
}

/** Somebody who is told of calls (`struct ftrace_ops`). */
export interface FunctionProbe {
  /** The functions from now on, in the place of those before. */
  set(functions: readonly KallsymsSymbol[]): void;
  stop(): void;
}

/** What the tracing core needs of the traced system. A process implements it, and tests do with declared symbols. */
export interface TraceArch {
  readonly ncpu: number;
  /** Nanoseconds of a clock by its name in `trace_clock`; undefined where it does not exist. */
  now(clock: string): bigint | undefined;
  /** What a clock showed at a time of the clock `local`, where that can be told: of hits that come in later than they were. */
  clockAt?(clock: string, ts: bigint): bigint | undefined;
  /** Why there is no clock of this name, where Linux has one. */
  clockObstacle?(clock: string): string | undefined;
  /** The task whose write is being handled (for `trace_marker`, pid filters): pid and comm. */
  current(): { readonly pid: number; readonly tgid: number; readonly comm: string; readonly cpu: number };
  /** The system's release and preemption model, for the head of the latency format. */
  uname?(): { readonly release: string; readonly preemption: string };
  /** Addresses of the current stack, the innermost first, for stack traces. */
  stackTrace?(record: TraceRecord): readonly bigint[];
  /** The name of a system call by its number, for `.syscall` of hists. */
  syscallName?(number: number): string | undefined;
  /** The same of the code below the system, for `userstacktrace`. */
  userStackTrace?(record: TraceRecord): readonly bigint[];
  /** The string at an address of the traced system, at most `max` bytes with its NUL; undefined on a fault. */
  readString?(address: bigint, max: number, user: boolean): Uint8Array | undefined;
  /** All symbols with this name, in the order of their addresses. */
  lookupSymbol(name: string, module?: string): readonly KallsymsSymbol[];
  /** The symbol that covers an address. */
  lookupAddress(address: bigint): KallsymsSymbol | undefined;
  hasModule(name: string): boolean;
  /** Functions that are traced now, with how many trace each, for `enabled_functions`. */
  enabledFunctions?(): Iterable<readonly [KallsymsSymbol, number]>;
  /** Every function that can be traced, for globs and `available_filter_functions`. */
  functions(): Iterable<KallsymsSymbol>;
  /**
   * Arms a probe at an address; for a return probe `ret` is set, and the context's `ip` is then where it returns to. The
   * answer disarms. Refuses with a KernelError. Arming may end later: hits come when it has.
   */
  armProbe(
    at: {
      readonly address: bigint;
      readonly ret: boolean;
      readonly maxactive: number;
      /** Arguments (from 0) whose values at entry a return probe asks for (ProbeContext.entryValue()). */
      readonly entryArgs?: readonly number[];
      /** What the event fetches, argument by argument: a system whose values do not last takes them at the hit. */
      readonly code?: readonly (readonly FetchInsn[])[];
      /** What becomes of its hits, for a system that can filter and count them where they happen. */
      readonly consumers?: HitConsumers;
    },
    hit: ProbeHit,
  ): ArmedProbe;
  /**
   * Where a probe `offset` bytes into a symbol goes, and whether that is its entry (arch_adjust_kprobe_addr()). Without it the
   * place itself, and its entry at 0.
   */
  adjustProbeAddress?(
    symbol: KallsymsSymbol,
    offset: bigint,
  ): { readonly address: bigint; readonly entry: boolean };
  /** Whether an instruction begins at an address within a symbol's code. Without it only entries can be probed. */
  instructionBoundary?(address: bigint): boolean;
  /** A named type's description, where types are known. */
  lookupType?(name: string): TypeDescription | undefined;
  /** Begins to trace calls of functions that are named afterwards. Without it there are no function tracers. */
  traceFunctions?(wants: FunctionWants, hit: (call: FunctionCall) => void): FunctionProbe;
  lookupTracepoint?(name: string): ProbeTracepoint | undefined;
  /** Whether a tracepoint may have this name, beside those of letters, digits and `_`. */
  isTracepointName?(name: string): boolean;
}
