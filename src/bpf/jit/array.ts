/** Operations on arrays. */
import { ERRNO } from '../errors.ts';
import { MAX_CALL_FRAMES } from '../isa.ts';
import { type PlacedMap, percpuBlock } from '../layout.ts';
import { BPF_F_LOCK, BPF_NOEXIST } from '../maps/map-layout.ts';
import { emitAddCpu, emitVisit, type MapContext } from './map-context.ts';
import { emitCopy } from './memory.ts';
import { type Code, I32, I64, OP } from './wasm.ts';

export function isArray(map: PlacedMap): boolean {
  return map.spec.type === 'array' || map.spec.type === 'percpu_array';
}

/** Pushes the address of CPU 0's value at the index in a local, or 0. */
export function emitArrayLookup(code: Code, map: PlacedMap, index: number): void {
  code.get(index).i32(map.spec.maxEntries).op(OP.i32LtU);
  code.if(I32);
  emitArrayAddress(code, map, index);
  code.else().i32(0).end();
}

/** Pushes the address of CPU 0's value at an index that is in range. */
export function emitArrayAddress(code: Code, map: PlacedMap, index: number): void {
  const { geometry, address } = map;
  code
    .get(index)
    .i32(geometry.stride)
    .op(OP.i32Mul)
    .i32(address + geometry.data)
    .op(OP.i32Add);
}

/** Function body of an update: parameters key, value, flags, which were checked. */
export function emitArrayUpdate(context: MapContext, code: Code, map: PlacedMap): void {
  const index = code.local(I32);
  const value = code.local(I32);
  code.get(0).mem(OP.i32Load, 0).set(index);
  emitArrayLookup(code, map, index);
  code.tee(value).op(OP.i32Eqz);
  code.if();
  code.i64(-ERRNO.E2BIG).op(OP.return);
  code.end();
  // BPF_F_LOCK is for values with a lock, of which nothing is inlined.
  code
    .get(2)
    .i64(BPF_NOEXIST | BPF_F_LOCK)
    .op(OP.i64And, OP.i64Eqz, OP.i32Eqz);
  code.if();
  code.get(2).i64(BPF_NOEXIST).op(OP.i64And, OP.i64Eqz);
  code.if(I64);
  code.i64(-ERRNO.EINVAL).else().i64(-ERRNO.EEXIST);
  code.end();
  code.op(OP.return);
  code.end();
  code.get(value);
  emitAddCpu(context, code, map);
  code.set(value);
  emitCopy(code, value, 0, 1, 0, map.spec.valueSize);
  code.i64(0);
}

/** Function body of bpf_for_each_map_elem. The callback's key is in memory: 8 bytes at the end of the CPU's scratch area, others for every depth of calls. */
export function emitArrayForEach(context: MapContext, code: Code, map: PlacedMap): void {
  const { spec } = map;
  const index = code.local(I32);
  const next = code.local(I32);
  const done = code.local(I64);
  const key = code.local(I32);
  const { stack, scratch, scratchSize } = percpuBlock(context.layout, 0);
  const base = code.local(I32);
  context.pushCpu(code);
  code.i32(context.layout.percpuStride).op(OP.i32Mul).set(base);
  // 512 bytes of stack are 8 bytes of keys.
  code.get(3).get(base).op(OP.i32Sub).i32(stack).op(OP.i32Sub).i32(6).op(OP.i32ShrU);
  code.get(base).op(OP.i32Add);
  code
    .i32(scratch + scratchSize - 8 * (MAX_CALL_FRAMES + 1))
    .op(OP.i32Add)
    .set(key);
  const end = code.block();
  const loop = code.loop();
  code.get(index).i32(spec.maxEntries).op(OP.i32GeU).brIf(end);
  code.get(key).get(index).mem(OP.i32Store, 0);
  code.get(done).i64(1).op(OP.i64Add).set(done);
  code.get(index).i32(1).op(OP.i32Add).set(next);
  emitVisit(
    context,
    code,
    map,
    () => code.get(key),
    () => emitArrayAddress(code, map, index),
  );
  code.get(next).set(index);
  code.op(OP.i64Eqz).brIf(loop);
  code.end();
  code.end();
  code.get(done);
}
