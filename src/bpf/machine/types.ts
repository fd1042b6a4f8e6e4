/** The shapes of the machine's interface: see `machine.ts`. */

import type { HelperOptions, HelperRuntime } from '../helpers/impl/index.ts';
import type { Interpreter } from '../interpreter/interpreter.ts';
import type { ProgramImports } from '../interpreter/program.ts';
import type { MemoryLayout, PlacedMap } from '../layout.ts';
import type { MapRecord, MapSpec } from '../maps/map-spec.ts';
import type { BpfMap } from '../maps/map-types.ts';
import type { ProgramInput, VerifiedProgram } from '../verifier/types.ts';

export interface MachineOptions extends HelperOptions {
  /** Threads that run programs. Default 1. */
  readonly ncpu?: number;
  /** Largest memory in 64 KiB pages. Default 65535: 4 GiB but for the last page. */
  readonly maxPages?: number;
  /** Nanoseconds of CLOCK_MONOTONIC. Default `performance.now()` in nanoseconds. */
  readonly clock?: () => number;
  /** bpf_get_prandom_u32. Default Math.random(). */
  readonly random?: () => number;
  /** Instead of the machine's own: frees the special fields of a map value that goes away (timers, kptrs, lists and trees). */
  readonly freeFields?: (value: number, record: MapRecord) => void;
}

export type LoadedMap = BpfMap;

export interface LoadInput extends ProgramInput {
  /** The map of every spec in `maps`, in the same order. */
  readonly loadedMaps: readonly LoadedMap[];
  /** Default 'jit'. */
  readonly engine?: 'jit' | 'interpreter';
  /** Helpers and kfuncs beyond the machine's own, with the types of their declarations (see ../jit/README.md). */
  readonly imports?: Partial<ProgramImports>;
}

export interface RunOptions {
  /** Default 0. */
  readonly cpu?: number;
}

export interface TestRunOptions extends RunOptions {
  /** The packet, for program types that have one. */
  readonly dataIn?: Uint8Array;
  /** The context: `struct xdp_md`, `struct __sk_buff`, arguments of a raw tracepoint, any bytes of a syscall program. */
  readonly ctxIn?: Uint8Array;
  /** Default 1. */
  readonly repeat?: number;
  readonly flags?: number;
  readonly batchSize?: number;
  /** Runs in place of the program, on the context that was made for it; gives r0. For debuggers. */
  readonly execute?: (ctx: bigint) => bigint;
}

export interface TestRunResult {
  /** u32 */
  readonly retval: number;
  /** The packet as the last run left it. */
  readonly dataOut?: Uint8Array;
  readonly ctxOut?: Uint8Array;
  /** Nanoseconds a run, as the kernel's. */
  readonly duration: number;
}

export interface LoadedProgram {
  readonly id: number;
  readonly name: string;
  readonly type: string;
  readonly verified: VerifiedProgram;
  readonly maps: readonly LoadedMap[];
  readonly engine: 'jit' | 'interpreter';
  /**
   * The module, for dumps; undefined in the interpreter. What it calls outside of itself is in a table, which whoever makes an instance fills
   * (`outside`, src/bpf/jit/README.md). `Machine.share()` is for other threads.
   */
  readonly wasm: Uint8Array | undefined;
  /** An execution in the reference interpreter that has not begun, for step(): same maps, same helpers. */
  interpret(ctx: number, options?: RunOptions): Interpreter;
  /** Runs the program on a context that is in the memory already. r0. */
  run(ctx: number, options?: RunOptions): bigint;
  /** BPF_PROG_TEST_RUN. Throws BpfError with the kernel's errno: ENOTSUPP where the program type has no test run. */
  testRun(options?: TestRunOptions): TestRunResult;
}

/** What postMessage() takes over to another thread. */
export interface SharedMachine {
  readonly memory: WebAssembly.Memory;
  readonly ncpu: number;
  readonly maxPages: number;
  readonly maps: readonly PlacedMap[];
  readonly programs: readonly SharedProgram[];
}

export interface SharedProgram {
  readonly id: number;
  readonly name: string;
  readonly type: string;
  readonly wasm: Uint8Array;
  readonly imports: readonly { readonly module: string; readonly name: string }[];
  readonly hasFunctions: boolean;
}

export interface Machine {
  readonly memory: WebAssembly.Memory;
  readonly ncpu: number;
  /** What helpers share: trace buffer, effects, timers, cookies. */
  readonly runtime: HelperRuntime;
  /** The memory's layout without maps. */
  readonly layout: MemoryLayout;
  /** Maps by id. */
  readonly maps: ReadonlyMap<number, LoadedMap>;
  readonly programs: ReadonlyMap<number, LoadedProgram>;
  /** Throws BpfError EINVAL, E2BIG or ENOMEM, as BPF_MAP_CREATE fails. */
  createMap(spec: MapSpec): LoadedMap;
  /** Verifies, compiles and instantiates. Throws VerifierError. */
  loadProgram(input: LoadInput): LoadedProgram;
  /** Puts a map into a map of maps, or a program into a program array: 0 or -errno. */
  setElement(map: LoadedMap, key: Uint8Array, object: LoadedMap | LoadedProgram): number;
  /** Gives up what createMap() or loadProgram() returned. It is freed once no program, map, descriptor or pin needs it. */
  release(object: LoadedMap | LoadedProgram): void;
  /** Pins an object to a path, as in /sys/fs/bpf. Throws BpfError EEXIST, EINVAL, EPERM, ENAMETOOLONG. */
  pin(path: string, object: LoadedMap | LoadedProgram): void;
  /** Throws BpfError ENOENT. */
  unpin(path: string): void;
  pinned(path: string): LoadedMap | LoadedProgram | undefined;
  /** All paths. */
  readonly pins: readonly string[];
  /** What another thread needs to use the maps and programs there are now (attachMachine). */
  share(): SharedMachine;
  /** The map whose header is at an address. */
  mapAt(address: number): LoadedMap | undefined;
  /** Zero memory for contexts and packets: address of `size` bytes, a multiple of 16. Throws BpfError ENOMEM. */
  alloc(size: number): number;
  free(address: number, size: number): void;
}
