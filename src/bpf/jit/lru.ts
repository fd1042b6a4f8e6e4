/** LRU hash maps: which element a new key gets (kernel/bpf/bpf_lru_list.c). ../maps/README.md has the algorithm. */
import type { PlacedMap } from '../layout.ts';
import { HASH_BUCKET, HASH_ELEM, HASH_HEADER, HASH_LIVE } from '../maps/map-layout.ts';
import { emitSlot, takeElement } from './hash-slab.ts';
import { emitLock, type MapContext } from './map-context.ts';
import { ATOMIC, type Code, type Func, I32, OP } from './wasm.ts';

/** Frees the bucket whose address is in a local. */
export function emitUnlock(code: Code, bucket: number): void {
  code.get(bucket).i32(0).atomic(ATOMIC.i32Store, 4, HASH_BUCKET.lock);
}

/** () → i32, prealloc_lru_pop: a free element, else the first that was not looked up since the hand came by last; else 0. */
export function takeLruElement(context: MapContext, map: PlacedMap): Func {
  const take = takeElement(context, map);
  const unlink = unlinkElement(context, map);
  return context.functions.once(`take_lru.${map.index}`, [], [I32], (code) => {
    const { address, geometry, spec } = map;
    const ref = geometry.ref!;
    const round = code.local(I32);
    const elem = code.local(I32);
    const hash = code.local(I32);
    const next = code.loop();
    code.call(take).tee(elem);
    code.if();
    code.get(elem).op(OP.return);
    code.end();
    code
      .i32(address + HASH_HEADER.hand)
      .i32(1)
      .atomic(ATOMIC.i32Add, 4, 0);
    code.i32(spec.maxEntries).op(OP.i32RemU).set(hash);
    emitSlot(code, map, hash);
    code.tee(elem).atomic(ATOMIC.i32Load, 4, HASH_ELEM.hash).tee(hash).i32(HASH_LIVE).op(OP.i32GeU);
    code.if();
    code.get(elem).mem(OP.i32Load, ref);
    code.if();
    code.get(elem).i32(0).mem(OP.i32Store, ref);
    code.else();
    code.get(elem).get(hash).call(unlink);
    code.if();
    code.get(elem).op(OP.return);
    code.end();
    code.end();
    code.end();
    // Twice around clears every mark; more only while other threads set them again.
    code.get(round).i32(1).op(OP.i32Add).tee(round);
    code
      .i32(4 * spec.maxEntries + 64)
      .op(OP.i32LtU)
      .brIf(next);
    code.end();
    code.i32(0);
  });
}

/** (elem: i32, hash: i32) → i32: takes a live element out of its bucket, 1 where it still was there; it is not put on the free list. */
function unlinkElement(context: MapContext, map: PlacedMap): Func {
  return context.functions.once(`unlink.${map.index}`, [I32, I32], [I32], (code) => {
    const { address, geometry } = map;
    const bucket = code.local(I32);
    const link = code.local(I32);
    const at = code.local(I32);
    const found = code.local(I32);
    code.get(1).i32(geometry.mask).op(OP.i32And).i32(HASH_BUCKET.size).op(OP.i32Mul);
    code
      .i32(address + HASH_HEADER.buckets)
      .op(OP.i32Add)
      .tee(bucket)
      .set(link);
    emitLock(context, code, bucket, HASH_BUCKET.lock, () => code.i32(0).op(OP.return));
    const done = code.block();
    const chain = code.loop();
    // `next` and `head` are both at offset 0, so a link is the address of either.
    code.get(link).atomic(ATOMIC.i32Load, 4, 0).tee(at).i32(1).op(OP.i32And).brIf(done);
    code.get(at).op(OP.i32Eqz).brIf(done);
    code.get(at).get(0).op(OP.i32Eq);
    code.get(at).mem(OP.i32Load, HASH_ELEM.hash).get(1).op(OP.i32Eq, OP.i32And);
    code.if();
    code.get(link).get(at).atomic(ATOMIC.i32Load, 4, HASH_ELEM.next).atomic(ATOMIC.i32Store, 4, 0);
    code.get(at).i32(0).atomic(ATOMIC.i32Store, 4, HASH_ELEM.hash);
    code
      .i32(address + HASH_HEADER.count)
      .i32(-1)
      .atomic(ATOMIC.i32Add, 4, 0)
      .op(OP.drop);
    code.i32(1).set(found).br(done);
    code.end();
    code.get(at).set(link).br(chain);
    code.end();
    code.end();
    emitUnlock(code, bucket);
    code.get(found);
  });
}
