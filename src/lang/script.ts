import type { Insn, MapSpec } from '../bpf/index.ts';
import type { PropertyPath } from '../kernel/trace/js-kfuncs.ts';

/** What the language compiler returns: plain data, ready to be verified, loaded, attached and printed. */
export interface CompiledScript {
  readonly file: string;
  readonly source: string;
  readonly maps: readonly ScriptMap[];
  readonly programs: readonly ScriptProgram[];
  /** Property paths; entry 0 is the empty path. Path numbers in programs index this table. */
  readonly paths: readonly PropertyPath[];
  /** Places in the source that run-time warnings refer to. */
  readonly positions: readonly ScriptPosition[];
  /** What a ring record's first u64 refers to. */
  readonly actions: readonly AsyncAction[];
  /** Index of the ring buffer map in `maps`. */
  readonly ring: number;
  readonly config: ScriptConfig;
  /** Compile-time warnings, already positioned. */
  readonly warnings: readonly { message: string; position: ScriptPosition; hint?: string }[];
}

export interface ScriptConfig {
  /** Bytes of a string value or key, NUL included (bpftrace's max_strlen). */
  readonly maxStrlen: number;
  readonly maxMapKeys: number;
  readonly stackDepth: number;
  readonly printMapsOnExit: boolean;
}

export interface ScriptPosition {
  readonly line: number;
  readonly column: number;
  readonly length: number;
  readonly text: string;
}

/** How bytes of a key, value or printf argument are shown. Sizes and offsets are in bytes. */
export type ScriptType =
  | { readonly kind: 'int'; readonly size: 1 | 2 | 4 | 8; readonly signed: boolean }
  | { readonly kind: 'string'; readonly size: number }
  /** struct js_value, see js-kfuncs.ts */
  | { readonly kind: 'value'; readonly size: number }
  /** u32 length, then that many bytes, zero-filled to size */
  | { readonly kind: 'buf'; readonly size: number }
  /** u32 stack id from js_stackid */
  | { readonly kind: 'stack'; readonly size: 8; readonly depth: number }
  /** text address (ip), shown as the function's name */
  | { readonly kind: 'func'; readonly size: 8 }
  /** index of a program and attachment: program << 32 | cookie; shown as the probe's full name */
  | { readonly kind: 'probe'; readonly size: 8 }
  /** u64 nsecs since boot, then u64 index of the `strftime` action that has the format */
  | { readonly kind: 'strftime'; readonly size: 16 }
  | {
      readonly kind: 'tuple';
      readonly size: number;
      readonly fields: readonly { offset: number; type: ScriptType }[];
    };

/** Aggregations and how their per-CPU cells merge. All cells are 8 bytes. */
export type MapValueType =
  | { readonly kind: 'plain'; readonly type: ScriptType }
  /** [count] */
  | { readonly kind: 'count' }
  /** [sum] */
  | { readonly kind: 'sum'; readonly signed: boolean }
  /** [value, isSet] */
  | { readonly kind: 'min' | 'max'; readonly signed: boolean }
  /** [total, count] */
  | { readonly kind: 'avg' | 'stats'; readonly signed: boolean }
  /**
   * buckets as bpftrace's hist(n, bits): [counts…] inline. Bucket 0 is negative numbers, 1 + n are 0 to 2^bits - 1, and a
   * number with its top bit at `bits + l` falls into ((l + 1) << bits) + (the `bits` bits below the top one) + 1.
   */
  | { readonly kind: 'hist'; readonly bits: number; readonly buckets: number }
  /** [below, counts…, above] inline: `buckets` is (max - min) / step, rounded up, + 2 */
  | {
      readonly kind: 'lhist';
      readonly min: number;
      readonly max: number;
      readonly step: number;
      readonly buckets: number;
    };

export interface ScriptMap {
  readonly spec: MapSpec;
  /** `@name` as the user wrote it; undefined for internal maps (the ring, scratch space). */
  readonly name: string | undefined;
  readonly key: readonly { offset: number; type: ScriptType }[];
  readonly value: MapValueType;
}

export type ProbeType =
  | 'kprobe'
  | 'kretprobe'
  | 'throw'
  | 'settle'
  | 'BEGIN'
  | 'END'
  | 'interval'
  | 'profile'
  | 'tracepoint'
  | 'rawtracepoint';

/** One attach point as written: `kprobe:server.js:handle`, `interval:s:1`. */
export interface AttachPoint {
  readonly type: ProbeType;
  /** Everything behind `kprobe:`, wildcards included. */
  readonly target: string;
  /** interval and profile: the period in nanoseconds. */
  readonly periodNs?: number;
  readonly position: ScriptPosition;
}

/** A function or line that an attach point matched; the compiler needs its parameters, the rest travels through. */
export interface ProbeTarget {
  /** `server.js:handle`: as shown to the user. */
  readonly name: string;
  /** Parameter names by index; undefined where a pattern has no name. */
  readonly params: readonly (string | undefined)[];
  /** The fields of an event, one for each of `params`: an integer or a text, at a property of an argument. */
  readonly fields?: readonly TargetField[];
}

export interface TargetField {
  readonly type: 'signed' | 'unsigned' | 'string';
  readonly arg: number;
  readonly path: readonly (string | number)[];
}

export interface ScriptProgram {
  readonly attach: readonly { point: AttachPoint; targets: readonly ProbeTarget[] }[];
  readonly insns: readonly Insn[];
  readonly usesAsyncId: boolean;
  readonly usesStack: boolean;
}

/**
 * A ring record is u64 action index, then its arguments, each at its offset from the record's start. printf, print and
 * time records carry data; clear, zero, exit and print of maps are requests to the tracer.
 */
export type AsyncAction =
  | {
      /** system: the text is a command for the tracer's shell */
      readonly kind: 'printf' | 'system';
      readonly format: string;
      readonly args: readonly { offset: number; type: ScriptType }[];
    }
  | { readonly kind: 'print'; readonly args: readonly { offset: number; type: ScriptType }[] }
  /** top and div are u32 at offsets 8 and 12 */
  | { readonly kind: 'print_map'; readonly map: number }
  | { readonly kind: 'clear' | 'zero'; readonly map: number }
  /** time in ns since boot at offset 8 */
  | { readonly kind: 'time'; readonly format: string }
  | { readonly kind: 'strftime'; readonly format: string }
  /** exit code, s64 at offset 8 */
  | { readonly kind: 'exit' }
  /** A run-time failure, written once a place; `message` says what failed. */
  | { readonly kind: 'error'; readonly position: number; readonly message?: string };

/** Looks up what an attach point matches; the CLI's comes from the target's symbols. */
export interface ProbeResolver {
  resolve(point: AttachPoint): readonly ProbeTarget[];
}
