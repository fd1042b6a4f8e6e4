/** What code for maps is made with, and the pieces that all map types share. */
import { ERRNO } from '../errors.ts';
import type { MemoryLayout, PlacedMap } from '../layout.ts';
import { LOCK_SPINS } from '../maps/map-layout.ts';
import type { ModuleFunctions } from './module-functions.ts';
import { ATOMIC, type Code, type Func, I32, I64, OP } from './wasm.ts';

/** Pushes the CPU number. */
export type PushCpu = (code: Code) => void;

/** What operations here need from outside. */
export interface MapImports {
  /** Allocates a chunk of elements, for maps without preallocation: `helper.map_grow_dyn`. */
  grow(): Func;
}

export interface MapContext {
  readonly functions: ModuleFunctions;
  readonly layout: MemoryLayout;
  readonly imports: MapImports;
  readonly pushCpu: PushCpu;
}

/**
 * In a function of bpf_for_each_map_elem (callback: i32, ctx: i64, flags, frame: i32): calls the callback for one element, whose addresses
 * `pushKey` and `pushValue` push as i32, the value's as CPU 0 has it. Leaves the callback's result.
 */
export function emitVisit(
  context: MapContext,
  code: Code,
  map: PlacedMap,
  pushKey: () => void,
  pushValue: () => void,
): void {
  code.i64(map.address);
  pushKey();
  code.op(OP.i64ExtendI32U);
  pushValue();
  emitAddCpu(context, code, map);
  code.op(OP.i64ExtendI32U);
  code.get(1).i64(0).get(3).get(0);
  const { module } = context.functions;
  code.callIndirect(module.type([I64, I64, I64, I64, I64, I32], [I64]), { table: module.ownTable });
}

/** Pops an i32 address of CPU 0's value and pushes that of this CPU's. */
export function emitAddCpu(context: MapContext, code: Code, map: PlacedMap): void {
  const { cpuStride, percpu } = map.geometry;
  if (!percpu || context.layout.ncpu === 1) return;
  context.pushCpu(code);
  code.i32(cpuStride).op(OP.i32Mul, OP.i32Add);
}

/** Takes the lock at `base + offset`, or returns -EBUSY from an i64 function. */
export function emitLock(
  context: MapContext,
  code: Code,
  base: number,
  offset: number,
  onBusy?: () => void,
): void {
  const spins = code.local(I32);
  const locked = code.block();
  const spin = code.loop();
  code.get(base).i32(0);
  context.pushCpu(code);
  code.i32(1).op(OP.i32Add).atomic(ATOMIC.i32Cmpxchg, 4, offset).op(OP.i32Eqz).brIf(locked);
  const wait = code.loop();
  code.get(spins).i32(1).op(OP.i32Add).tee(spins).i32(LOCK_SPINS).op(OP.i32GtU);
  code.if();
  if (onBusy !== undefined) onBusy();
  else code.i64(-ERRNO.EBUSY).op(OP.return);
  code.end();
  code.get(base).atomic(ATOMIC.i32Load, 4, offset).brIf(wait);
  code.end();
  code.br(spin);
  code.end();
  code.end();
}
