/** Update, delete and walk of hash maps: bodies of functions of the module. */
import { ERRNO } from '../errors.ts';
import type { PlacedMap } from '../layout.ts';
import { BPF_EXIST, BPF_NOEXIST, HASH_BUCKET, HASH_ELEM, HASH_HEADER } from '../maps/map-layout.ts';
import { HashKey } from './hash-key.ts';
import { emitChunk, emitChunkSlot, emitSlot, releaseElement, takeElement } from './hash-slab.ts';
import { emitUnlock, takeLruElement } from './lru.ts';
import { emitAddCpu, emitLock, emitVisit, type MapContext } from './map-context.ts';
import { emitCopy, emitZero } from './memory.ts';
import { ATOMIC, type Code, I32, I64, OP } from './wasm.ts';

/**
 * Function body of an update: parameters key, value, flags, which were checked. A key that is new to an LRU map may evict another one, for
 * which this bucket must not be locked: the element is had first, and the key looked for once more.
 */
export function emitHashUpdate(context: MapContext, code: Code, map: PlacedMap): void {
  const { geometry, spec, address } = map;
  const isLru = geometry.ref !== undefined;
  const result = code.local(I64);
  const value = code.local(I32);
  const fresh = code.local(I32);
  const key = new HashKey(code, map, 0);
  key.emitHash();
  const again = isLru ? code.loop() : undefined;
  emitLock(context, code, key.bucketAddress, HASH_BUCKET.lock);
  const unlock = code.block();
  key.emitFind((elem) => {
    code.get(2).i64(BPF_NOEXIST).op(OP.i64Eq);
    code.if();
    code.i64(-ERRNO.EEXIST).set(result).br(unlock);
    code.end();
    code.get(elem).i32(geometry.value).op(OP.i32Add);
    emitAddCpu(context, code, map);
    code.set(value);
    emitCopy(code, value, 0, 1, 0, spec.valueSize);
    if (geometry.ref !== undefined) code.get(elem).i32(0).mem(OP.i32Store, geometry.ref);
    code.br(unlock);
  });
  code.get(2).i64(BPF_EXIST).op(OP.i64Eq);
  code.if();
  code.i64(-ERRNO.ENOENT).set(result).br(unlock);
  code.end();
  if (again === undefined) {
    code.call(takeElement(context, map)).tee(fresh).op(OP.i32Eqz);
    code.if();
    code.i64(-ERRNO.E2BIG).set(result).br(unlock);
    code.end();
  } else {
    code.get(fresh).op(OP.i32Eqz);
    code.if();
    emitUnlock(code, key.bucketAddress);
    code.call(takeLruElement(context, map)).tee(fresh).brIf(again);
    code.i64(-ERRNO.ENOMEM).op(OP.return);
    code.end();
  }
  key.emitStoreKey(fresh);
  if (geometry.percpu && context.layout.ncpu > 1) {
    emitZero(code, fresh, geometry.value, geometry.cpuStride * context.layout.ncpu);
  }
  code.get(fresh).i32(geometry.value).op(OP.i32Add);
  emitAddCpu(context, code, map);
  code.set(value);
  emitCopy(code, value, 0, 1, 0, spec.valueSize);
  if (geometry.ref !== undefined) code.get(fresh).i32(0).mem(OP.i32Store, geometry.ref);
  code.get(fresh).get(key.hash).mem(OP.i32Store, HASH_ELEM.hash);
  const head = code.local(I32);
  code.get(fresh);
  code.get(key.bucketAddress).atomic(ATOMIC.i32Load, 4, HASH_BUCKET.head).tee(head);
  code.get(key.endMarker).get(head).op(OP.select);
  code.mem(OP.i32Store, HASH_ELEM.next);
  code.get(key.bucketAddress).get(fresh).atomic(ATOMIC.i32Store, 4, HASH_BUCKET.head);
  code
    .i32(address + HASH_HEADER.count)
    .i32(1)
    .atomic(ATOMIC.i32Add, 4, 0)
    .op(OP.drop);
  if (isLru) code.i32(0).set(fresh);
  code.end();
  emitUnlock(code, key.bucketAddress);
  if (isLru) {
    code.end();
    // Another thread was faster with this key.
    code.get(fresh);
    code.if();
    code.get(fresh).call(releaseElement(context, map));
    code.end();
  }
  code.get(result);
}

/** Function body of a delete: parameter key. */
export function emitHashDelete(context: MapContext, code: Code, map: PlacedMap): void {
  const result = code.local(I64);
  const link = code.local(I32);
  const elem = code.local(I32);
  const key = new HashKey(code, map, 0);
  key.emitHash();
  emitLock(context, code, key.bucketAddress, HASH_BUCKET.lock);
  code.i64(-ERRNO.ENOENT).set(result);
  code.get(key.bucketAddress).set(link);
  const done = code.block();
  const chain = code.loop();
  // `next` and `head` are both at offset 0, so a link is the address of either.
  code.get(link).atomic(ATOMIC.i32Load, 4, 0).tee(elem).i32(1).op(OP.i32And).brIf(done);
  code.get(elem).op(OP.i32Eqz).brIf(done);
  key.emitMatch(elem);
  code.if();
  code.get(link).get(elem).atomic(ATOMIC.i32Load, 4, HASH_ELEM.next).atomic(ATOMIC.i32Store, 4, 0);
  code.get(elem).call(releaseElement(context, map));
  code
    .i32(map.address + HASH_HEADER.count)
    .i32(-1)
    .atomic(ATOMIC.i32Add, 4, 0)
    .op(OP.drop);
  code.i64(0).set(result).br(done);
  code.end();
  code.get(elem).set(link).br(chain);
  code.end();
  code.end();
  emitUnlock(code, key.bucketAddress);
  code.get(result);
}

/**
 * Function body of bpf_for_each_map_elem in slab order: entries that the callback deletes or makes disturb nothing, and there are never
 * more than maxEntries calls.
 */
export function emitHashForEach(context: MapContext, code: Code, map: PlacedMap): void {
  const { address, geometry, spec } = map;
  const slot = code.local(I32);
  const elem = code.local(I32);
  const done = code.local(I64);
  const end = code.block();
  const loop = code.loop();
  code.get(slot).i32(spec.maxEntries).op(OP.i32GeU).brIf(end);
  code
    .get(slot)
    .i32(address + HASH_HEADER.used)
    .atomic(ATOMIC.i32Load, 4, 0)
    .op(OP.i32GeU)
    .brIf(end);
  if (geometry.chunkShift === undefined) emitSlot(code, map, slot);
  else {
    const chunk = code.local(I32);
    emitChunk(code, map, slot);
    code.tee(chunk);
    code.if(I32);
    emitChunkSlot(code, map, slot, chunk);
    // No element has an address of 0, and no hash there: the slot is skipped.
    code.else().i32(0).end();
  }
  code.set(elem);
  code.get(slot).i32(1).op(OP.i32Add).set(slot);
  // HASH_LIVE is the sign.
  code.get(elem).atomic(ATOMIC.i32Load, 4, HASH_ELEM.hash).i32(0).op(OP.i32GeS).brIf(loop);
  code.get(done).i64(1).op(OP.i64Add).set(done);
  emitVisit(
    context,
    code,
    map,
    () => code.get(elem).i32(HASH_ELEM.key).op(OP.i32Add),
    () => code.get(elem).i32(geometry.value).op(OP.i32Add),
  );
  code.op(OP.i64Eqz).brIf(loop);
  code.end();
  code.end();
  code.get(done);
}
