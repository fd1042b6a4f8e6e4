/** Elements of hash maps: slots of a slab, a list of free ones. */
import type { PlacedMap } from '../layout.ts';
import { HASH_ELEM, HASH_HEADER } from '../maps/map-layout.ts';
import type { MapContext } from './map-context.ts';
import { ATOMIC, type Code, type Func, I32, I64, OP } from './wasm.ts';

/** Pushes the address of the element in a slot of a slab that is one piece. */
export function emitSlot(code: Code, { address, geometry }: PlacedMap, slot: number): void {
  code
    .get(slot)
    .i32(geometry.stride)
    .op(OP.i32Mul)
    .i32(address + geometry.data)
    .op(OP.i32Add);
}

/** Pushes the address of the chunk that a slot is in, or 0. */
export function emitChunk(code: Code, { address, geometry }: PlacedMap, slot: number): void {
  code.get(slot).i32(geometry.chunkShift!).op(OP.i32ShrU).i32(2).op(OP.i32Shl);
  code
    .i32(address + geometry.data)
    .op(OP.i32Add)
    .atomic(ATOMIC.i32Load, 4, 0);
}

/** Pushes the address of the element in a slot of a chunk. */
export function emitChunkSlot(code: Code, { geometry }: PlacedMap, slot: number, chunk: number): void {
  code
    .get(slot)
    .i32((1 << geometry.chunkShift!) - 1)
    .op(OP.i32And)
    .i32(geometry.stride)
    .op(OP.i32Mul)
    .get(chunk)
    .op(OP.i32Add);
}

/** () → i32: an element from the free list, else one never used, else 0. */
export function takeElement(context: MapContext, map: PlacedMap): Func {
  return context.functions.once(`take.${map.index}`, [], [I32], (code) => {
    const { address, geometry, spec } = map;
    const head = code.local(I64);
    const elem = code.local(I32);
    const slot = code.local(I32);
    const freeHead = address + HASH_HEADER.freeHead;
    const none = code.block();
    const again = code.loop();
    code.i32(freeHead).atomic(ATOMIC.i64Load, 8, 0).tee(head);
    code.op(OP.i32WrapI64).tee(elem).op(OP.i32Eqz).brIf(none);
    code.i32(freeHead).get(head);
    code.get(head).i64(32).op(OP.i64ShrU).i64(1).op(OP.i64Add).i64(32).op(OP.i64Shl);
    code.get(elem).i32(1).op(OP.i32Shl).tee(elem);
    code.atomic(ATOMIC.i32Load, 4, HASH_ELEM.hash).op(OP.i64ExtendI32U, OP.i64Or);
    code.atomic(ATOMIC.i64Cmpxchg, 8, 0).get(head).op(OP.i64Ne).brIf(again);
    code.get(elem).op(OP.return);
    code.end();
    code.end();
    const used = address + HASH_HEADER.used;
    code.i32(used).i32(1).atomic(ATOMIC.i32Add, 4, 0).tee(slot).i32(spec.maxEntries).op(OP.i32LtU);
    code.if();
    if (geometry.chunkShift === undefined) {
      emitSlot(code, map, slot);
      code.op(OP.return);
    } else {
      const chunk = code.local(I32);
      emitChunk(code, map, slot);
      code.tee(chunk);
      code.if(I32);
      code.get(chunk);
      code.else();
      code.i32(address).get(slot).call(context.imports.grow()).tee(chunk);
      code.end();
      code.op(OP.i32Eqz);
      code.if();
      // No memory: the slot is lost, others may have later ones by now.
      code.i32(0).op(OP.return);
      code.end();
      emitChunkSlot(code, map, slot, chunk);
      code.op(OP.return);
    }
    code.end();
    code.i32(used).i32(-1).atomic(ATOMIC.i32Add, 4, 0).op(OP.drop);
    code.i32(0);
  });
}

/** (elem: i32): puts an element on the free list. */
export function releaseElement(context: MapContext, map: PlacedMap): Func {
  return context.functions.once(`release.${map.index}`, [I32], [], (code) => {
    const head = code.local(I64);
    const freeHead = map.address + HASH_HEADER.freeHead;
    const again = code.loop();
    code.i32(freeHead).atomic(ATOMIC.i64Load, 8, 0).set(head);
    code.get(0).get(head).op(OP.i32WrapI64).atomic(ATOMIC.i32Store, 4, HASH_ELEM.hash);
    code.i32(freeHead).get(head);
    code.get(head).i64(32).op(OP.i64ShrU).i64(1).op(OP.i64Add).i64(32).op(OP.i64Shl);
    code.get(0).i32(1).op(OP.i32ShrU, OP.i64ExtendI32U, OP.i64Or);
    code.atomic(ATOMIC.i64Cmpxchg, 8, 0).get(head).op(OP.i64Ne).brIf(again);
    code.end();
  });
}
