/** What the implementation of a helper gets: the machine, the program that calls, and the CPU that it runs on. */
import type { Btf } from '../../btf/btf.ts';
import { ERRNO, type ErrnoName } from '../../errors.ts';
import type { PercpuBlock } from '../../layout.ts';
import type { Heap } from '../../maps/heap.ts';
import type { BpfMap } from '../../maps/map-types.ts';
import { type MemoryView, viewMemory } from '../../maps/memory-view.ts';
import type { HelperRuntime } from './runtime.ts';

/** A function of the program, as its pointer is in a register: gives its r0. */
export type Callback = (fn: number, ...args: (number | bigint)[]) => bigint;

/** The program that calls. */
export interface CallingProgram {
  readonly id: number;
  readonly name: string;
  readonly type: string;
  readonly attachType?: string | undefined;
  readonly attachTo?: string | undefined;
  readonly btf?: Btf | undefined;
  readonly targetBtf?: Btf | undefined;
}

export interface HelperContext {
  readonly memory: WebAssembly.Memory;
  readonly cpu: number;
  readonly ncpu: number;
  readonly block: PercpuBlock;
  readonly heap: Heap;
  readonly program: CallingProgram;
  readonly runtime: HelperRuntime;
  mapAt(address: number): BpfMap | undefined;
  /** To call functions of the program while the helper runs. Has to be taken before anything else runs. */
  callbacks(): Callback;
  /** To call one after the program has ended, from outside. */
  later(): Callback;
}

/**
 * Arguments and result have the types of the declaration: i32 for pointers, maps and sizes, i64 for scalars. Every parameter is
 * named, none optional or a rest: their number decides how it is called.
 */
// biome-ignore lint/suspicious/noExplicitAny: each has its own type
export type HelperImpl = (c: HelperContext, ...args: any[]) => number | bigint | undefined;

export const view = (c: HelperContext): MemoryView => viewMemory(c.memory);
/** A negative errno as r0. */
export const fail = (name: ErrnoName): bigint => BigInt(-ERRNO[name]);
export const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
export const u32 = (value: bigint): number => Number(BigInt.asUintN(32, value));
export const s32 = (value: bigint): number => Number(BigInt.asIntN(32, value));

/** Below this nothing is memory: NULL and its surroundings, and the memory's header. */
const FIRST_ADDRESS = 1024;

/** Whether `size` bytes at a 64-bit address are memory. */
export function isMemory(c: HelperContext, address: bigint, size: number): boolean {
  const at = u64(address);
  return at >= BigInt(FIRST_ADDRESS) && at + BigInt(size) <= BigInt(view(c).u8.length);
}

/** What must not happen in a kernel either. */
export function mapOf(c: HelperContext, address: number): BpfMap {
  const map = c.mapAt(address >>> 0);
  if (map === undefined) throw new RangeError(`no map at address ${address >>> 0}`);
  return map;
}

/** A C string of at most `size` bytes, latin1; undefined where no NUL ends it. */
export function cString(c: HelperContext, address: number, size: number): string | undefined {
  const { u8 } = view(c);
  const start = address >>> 0;
  const end = u8.subarray(start, start + size).indexOf(0);
  if (end < 0) return undefined;
  let text = '';
  for (let at = start; at < start + end; at++) text += String.fromCharCode(u8[at]!);
  return text;
}
