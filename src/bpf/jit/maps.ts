/**
 * Map operations as Wasm functions, one set a map: key size, value size and all addresses are constants, keys are hashed
 * and compared in registers. The algorithms and the layout are those of ../maps/README.md.
 */
import { ERRNO } from '../errors.ts';
import { MAX_CALL_FRAMES, type MemoryLayout, type PlacedMap, percpuBlock } from '../layout.ts';
import {
  BPF_EXIST,
  BPF_F_LOCK,
  BPF_NOEXIST,
  BPF_RINGBUF_BUSY_BIT,
  BPF_RINGBUF_DISCARD_BIT,
  HASH_BUCKET,
  HASH_ELEM,
  HASH_HEADER,
  HASH_LANES,
  HASH_LIVE,
  HASH_MULTIPLIER,
  LOCK_SPINS,
  MAP_HEADER,
  RING_HEADER,
  RING_RECORD,
} from '../maps/map-layout.ts';
import { emitCopy, emitWord, emitZero } from './memory.ts';
import { ATOMIC, Code, type Func, I32, I64, OP, type ValType, type WasmModule } from './wasm.ts';

const BPF_RB_NO_WAKEUP = 1;

/** Keys of up to this many words are held in locals. */
const MAX_WORDS = 8;

/** Pushes the CPU number. */
export type PushCpu = (code: Code) => void;

export function isArray(map: PlacedMap): boolean {
  return map.spec.type === 'array' || map.spec.type === 'percpu_array';
}

/** Whether a helper on such a map has code here; all others go through imports. */
export function isInlined({ spec }: PlacedMap, helper: string): boolean {
  switch (spec.type) {
    case 'array':
    case 'percpu_array':
      return helper !== 'map_update_elem' || spec.record === undefined;
    case 'hash':
    case 'percpu_hash':
      return spec.record === undefined || !/update|delete/.test(helper);
    case 'lru_hash':
    case 'lru_percpu_hash':
      return true;
    case 'array_of_maps':
    case 'hash_of_maps':
      return helper === 'map_lookup_elem';
    case 'ringbuf':
      return helper.startsWith('ringbuf');
    default:
      return false;
  }
}

/** What operations here need from outside. */
export interface MapImports {
  /** Allocates a chunk of elements, where there are maps without preallocation. */
  readonly grow?: Func | undefined;
  /** `helper.map_update_elem_dyn`, where there are LRU maps. */
  readonly update?: Func | undefined;
}

/** No errno and no success: an LRU map has to make room first. */
const NEEDS_ELEMENT = 1;

export class MapFunctions {
  readonly #module: WasmModule;
  readonly #layout: MemoryLayout;
  readonly #pushCpu: PushCpu;
  readonly #imports: MapImports;
  readonly #made = new Map<string, Func>();

  constructor(module: WasmModule, layout: MemoryLayout, pushCpu: PushCpu, imports: MapImports = {}) {
    this.#imports = imports;
    this.#module = module;
    this.#layout = layout;
    this.#pushCpu = pushCpu;
  }

  #function(
    name: string,
    params: readonly ValType[],
    results: readonly ValType[],
    emit: (code: Code) => void,
  ): Func {
    const known = this.#made.get(name);
    if (known !== undefined) return known;
    const func = this.#module.declare(params, results);
    this.#made.set(name, func);
    const code = new Code(params.length);
    emit(code);
    this.#module.define(func, code);
    return func;
  }

  /** Pops an i32 address of CPU 0's value and pushes that of this CPU's. */
  addCpu(code: Code, map: PlacedMap): void {
    const { cpuStride, percpu } = map.geometry;
    if (!percpu || this.#layout.ncpu === 1) return;
    this.#pushCpu(code);
    code.i32(cpuStride).op(OP.i32Mul, OP.i32Add);
  }

  /** (key: i32) → i32: address of CPU 0's value, or 0. */
  find(map: PlacedMap): Func {
    return this.#function(`find.${map.index}`, [I32], [I32], (code) => {
      if (isArray(map) || map.spec.type === 'array_of_maps') {
        const index = code.local(I32);
        code.get(0).mem(OP.i32Load, 0).set(index);
        emitArrayLookup(code, map, index);
        return;
      }
      const key = new HashKey(code, map, 0);
      key.emitHash();
      key.emitFind((elem) => {
        const { ref } = map.geometry;
        // bpf_lru_node_set_ref
        if (ref !== undefined) code.get(elem).i32(1).mem(OP.i32Store, ref);
        code.get(elem).i32(map.geometry.value).op(OP.i32Add, OP.return);
      });
      code.i32(0);
    });
  }

  /** (key: i32) → i32: what a lookup gives: address of this CPU's value, or of the inner map, or 0. */
  lookup(map: PlacedMap): Func {
    const find = this.find(map);
    const isOuter = map.spec.type === 'array_of_maps' || map.spec.type === 'hash_of_maps';
    if (!map.geometry.percpu && !isOuter) return find;
    return this.#function(`lookup.${map.index}`, [I32], [I32], (code) => {
      const value = code.local(I32);
      code.get(0).call(find.index).tee(value);
      code.if(I32);
      code.get(value);
      if (isOuter) code.atomic(ATOMIC.i32Load, 4, 0);
      else this.addCpu(code, map);
      code.else().i32(0).end();
    });
  }

  /** (key: i32, cpu: i64) → i32: address of that CPU's value, or 0. */
  lookupPercpu(map: PlacedMap): Func {
    const find = this.find(map);
    return this.#function(`lookup_percpu.${map.index}`, [I32, I64], [I32], (code) => {
      const value = code.local(I32);
      code.get(1).op(OP.i32WrapI64).i32(this.#layout.ncpu).op(OP.i32GeU);
      code.if();
      code.i32(0).op(OP.return);
      code.end();
      code.get(0).call(find.index).tee(value);
      code.if(I32);
      code.get(value).get(1).op(OP.i32WrapI64).i32(map.geometry.cpuStride).op(OP.i32Mul, OP.i32Add);
      code.else().i32(0).end();
    });
  }

  /**
   * bpf_for_each_map_elem: (callback: i32, ctx: i64, flags: i64, frame: i32) → i64, the number of calls made. Of a hash in slab
   * order: entries that the callback deletes or makes disturb nothing, and there are never more than maxEntries calls.
   */
  forEach(map: PlacedMap): Func {
    const { address, geometry, spec } = map;
    return this.#function(`for_each.${map.index}`, [I32, I64, I64, I32], [I64], (code) => {
      const slot = code.local(I32);
      const elem = code.local(I32);
      const done = code.local(I64);
      code.get(2).op(OP.i64Eqz, OP.i32Eqz);
      code.if();
      code.i64(-ERRNO.EINVAL).op(OP.return);
      code.end();
      if (isArray(map)) {
        this.#forEachIndex(code, map, slot, done);
        return;
      }
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
      code.i64(address);
      code.get(elem).i32(HASH_ELEM.key).op(OP.i32Add, OP.i64ExtendI32U);
      code.get(elem).i32(geometry.value).op(OP.i32Add);
      this.addCpu(code, map);
      code.op(OP.i64ExtendI32U);
      code.get(1).i64(0).get(3).get(0);
      code.callIndirect(this.#module.type([I64, I64, I64, I64, I64, I32], [I64]));
      code.op(OP.i64Eqz).brIf(loop);
      code.end();
      code.end();
      code.get(done);
    });
  }

  /** The callback's key is in memory: 8 bytes at the end of the CPU's scratch area, others for every depth of calls. */
  #forEachIndex(code: Code, map: PlacedMap, index: number, done: number): void {
    const { address, spec } = map;
    const key = code.local(I32);
    const { stack, scratch, scratchSize } = percpuBlock(this.#layout, 0);
    const base = code.local(I32);
    this.#pushCpu(code);
    code.i32(this.#layout.percpuStride).op(OP.i32Mul).set(base);
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
    code.i64(address);
    code.get(key).op(OP.i64ExtendI32U);
    emitArrayAddress(code, map, index);
    this.addCpu(code, map);
    code.op(OP.i64ExtendI32U);
    code.get(1).i64(0).get(3).get(0);
    code.get(index).i32(1).op(OP.i32Add).set(index);
    code.callIndirect(this.#module.type([I64, I64, I64, I64, I64, I32], [I64]));
    code.op(OP.i64Eqz).brIf(loop);
    code.end();
    code.end();
    code.get(done);
  }

  /** (key: i32, value: i32, flags: i64) → i64: 0 or -errno. */
  update(map: PlacedMap): Func {
    return this.#function(`update.${map.index}`, [I32, I32, I64], [I64], (code) => {
      code.get(2);
      if (isArray(map)) code.i64(~BPF_F_LOCK).op(OP.i64And);
      code.i64(BPF_EXIST).op(OP.i64GtU);
      code.if();
      code.i64(-ERRNO.EINVAL).op(OP.return);
      code.end();
      if (isArray(map)) this.#arrayUpdate(code, map);
      else this.#hashUpdate(code, map);
    });
  }

  #arrayUpdate(code: Code, map: PlacedMap): void {
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
    this.addCpu(code, map);
    code.set(value);
    emitCopy(code, value, 0, 1, 0, map.spec.valueSize);
    code.i64(0);
  }

  #hashUpdate(code: Code, map: PlacedMap): void {
    const { geometry, spec, address } = map;
    const result = code.local(I64);
    const value = code.local(I32);
    const fresh = code.local(I32);
    const key = new HashKey(code, map, 0);
    key.emitHash();
    this.#lock(code, key.bucketAddress, HASH_BUCKET.lock);
    const unlock = code.block();
    key.emitFind((elem) => {
      code.get(2).i64(BPF_NOEXIST).op(OP.i64Eq);
      code.if();
      code.i64(-ERRNO.EEXIST).set(result).br(unlock);
      code.end();
      code.get(elem).i32(geometry.value).op(OP.i32Add);
      this.addCpu(code, map);
      code.set(value);
      emitCopy(code, value, 0, 1, 0, spec.valueSize);
      if (geometry.ref !== undefined) code.get(elem).i32(0).mem(OP.i32Store, geometry.ref);
      code.br(unlock);
    });
    code.get(2).i64(BPF_EXIST).op(OP.i64Eq);
    code.if();
    code.i64(-ERRNO.ENOENT).set(result).br(unlock);
    code.end();
    if (geometry.ref !== undefined) {
      // A key that is new to an LRU map may evict another one, for which this bucket must not be locked.
      code.i64(NEEDS_ELEMENT).set(result);
      code.end();
      code.get(key.bucketAddress).i32(0).atomic(ATOMIC.i32Store, 4, HASH_BUCKET.lock);
      code.get(result).i64(NEEDS_ELEMENT).op(OP.i64Eq);
      code.if();
      code.i32(address).get(0).get(1).get(2).call(this.#imports.update!.index).set(result);
      code.end();
      code.get(result);
      return;
    }
    code.call(this.#take(map).index).tee(fresh).op(OP.i32Eqz);
    code.if();
    code.i64(-ERRNO.E2BIG).set(result).br(unlock);
    code.end();
    key.emitStoreKey(fresh);
    if (geometry.percpu && this.#layout.ncpu > 1) {
      emitZero(code, fresh, geometry.value, geometry.cpuStride * this.#layout.ncpu);
    }
    code.get(fresh).i32(geometry.value).op(OP.i32Add);
    this.addCpu(code, map);
    code.set(value);
    emitCopy(code, value, 0, 1, 0, spec.valueSize);
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
    code.end();
    code.get(key.bucketAddress).i32(0).atomic(ATOMIC.i32Store, 4, HASH_BUCKET.lock);
    code.get(result);
  }

  /** (key: i32) → i64: 0 or -errno. */
  delete(map: PlacedMap): Func {
    return this.#function(`delete.${map.index}`, [I32], [I64], (code) => {
      if (isArray(map)) code.i64(-ERRNO.EINVAL);
      else this.#hashDelete(code, map);
    });
  }

  #hashDelete(code: Code, map: PlacedMap): void {
    const result = code.local(I64);
    const link = code.local(I32);
    const elem = code.local(I32);
    const key = new HashKey(code, map, 0);
    key.emitHash();
    this.#lock(code, key.bucketAddress, HASH_BUCKET.lock);
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
    code.get(elem).call(this.#release(map).index);
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
    code.get(key.bucketAddress).i32(0).atomic(ATOMIC.i32Store, 4, HASH_BUCKET.lock);
    code.get(result);
  }

  /** Takes the lock at `base + offset`, or returns -EBUSY from an i64 function. */
  #lock(code: Code, base: number, offset: number, onBusy?: () => void): void {
    const spins = code.local(I32);
    const locked = code.block();
    const spin = code.loop();
    code.get(base).i32(0);
    this.#pushCpu(code);
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

  /** () → i32: an element from the free list, else one never used, else 0. */
  #take(map: PlacedMap): Func {
    return this.#function(`take.${map.index}`, [], [I32], (code) => {
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
        code.i32(address).get(slot).call(this.#imports.grow!.index).tee(chunk);
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
  #release(map: PlacedMap): Func {
    return this.#function(`release.${map.index}`, [I32], [], (code) => {
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

  /** (size: i64, flags: i64) → i32: address of a record's payload, or 0. */
  ringReserve(map: PlacedMap): Func {
    return this.#function(`ring_reserve.${map.index}`, [I64, I64], [I32], (code) => {
      const { address, geometry, spec } = map;
      const base = code.local(I32);
      const producer = code.local(I32);
      const next = code.local(I32);
      const header = code.local(I32);
      const drop = (): void => {
        code
          .i32(address + RING_HEADER.dropped)
          .i64(1)
          .atomic(ATOMIC.i64Add, 8, 0)
          .op(OP.drop);
        code.i32(0).op(OP.return);
      };
      code.get(1).op(OP.i64Eqz, OP.i32Eqz);
      code.if();
      code.i32(0).op(OP.return);
      code.end();
      code
        .get(0)
        .i64(spec.maxEntries - RING_RECORD.size)
        .op(OP.i64GtU);
      code.if();
      drop();
      code.end();
      code.i32(address).set(base);
      this.#lock(code, base, RING_HEADER.lock, drop);
      code
        .i32(address + RING_HEADER.producerPos)
        .mem(OP.i32Load, 0)
        .tee(producer);
      code
        .get(0)
        .op(OP.i32WrapI64)
        .i32(RING_RECORD.size + 7)
        .op(OP.i32Add)
        .i32(-8)
        .op(OP.i32And);
      code.op(OP.i32Add).tee(next);
      code.i32(address + RING_HEADER.consumerPos).atomic(ATOMIC.i32Load, 4, 0);
      code.op(OP.i32Sub).i32(geometry.mask).op(OP.i32GtU);
      code.if();
      code
        .i32(address + RING_HEADER.lock)
        .i32(0)
        .atomic(ATOMIC.i32Store, 4, 0);
      drop();
      code.end();
      code.get(producer).i32(geometry.mask).op(OP.i32And).tee(producer);
      code
        .i32(address + geometry.data)
        .op(OP.i32Add)
        .set(header);
      code.get(header).get(0).op(OP.i32WrapI64).i32(BPF_RINGBUF_BUSY_BIT).op(OP.i32Or);
      code.mem(OP.i32Store, RING_RECORD.len);
      code.get(header).get(producer).mem(OP.i32Store, RING_RECORD.offset);
      code
        .i32(address + RING_HEADER.producerPos)
        .get(next)
        .atomic(ATOMIC.i32Store, 4, 0);
      code
        .i32(address + RING_HEADER.lock)
        .i32(0)
        .atomic(ATOMIC.i32Store, 4, 0);
      code.get(header).i32(RING_RECORD.size).op(OP.i32Add);
    });
  }

  /** (payload: i32, flags: i64): hands a record to the consumer, or gives it up; wakes the consumer where it sleeps. */
  ringCommit(discard: boolean): Func {
    return this.#function(discard ? 'ring_discard' : 'ring_submit', [I32, I64], [], (code) => {
      const header = code.local(I32);
      const ring = code.local(I32);
      code.get(0).i32(RING_RECORD.size).op(OP.i32Sub).set(header);
      // Once it is committed the record may be consumed, and another one written over it.
      code.get(header).get(header).mem(OP.i32Load, RING_RECORD.offset).op(OP.i32Sub);
      code.i32(RING_HEADER.size).op(OP.i32Sub).set(ring);
      code.get(header).get(header).mem(OP.i32Load, RING_RECORD.len).i32(~BPF_RINGBUF_BUSY_BIT).op(OP.i32And);
      if (discard) code.i32(BPF_RINGBUF_DISCARD_BIT).op(OP.i32Or);
      code.atomic(ATOMIC.i32Store, 4, RING_RECORD.len);
      code.get(ring).atomic(ATOMIC.i32Load, 4, RING_HEADER.waiting);
      code.if();
      code.get(1).i64(BPF_RB_NO_WAKEUP).op(OP.i64Ne);
      code.if();
      code.get(ring).i32(0).atomic(ATOMIC.i32Store, 4, RING_HEADER.waiting);
      code.get(ring).i32(1).atomic(ATOMIC.notify, 4, RING_HEADER.waiting).op(OP.drop);
      code.end();
      code.end();
    });
  }

  /** (data: i32, size: i64, flags: i64) → i64. With `size`, the copy is unrolled for that many bytes. */
  ringOutput(map: PlacedMap, size: number | undefined): Func {
    const reserve = this.ringReserve(map);
    const submit = this.ringCommit(false);
    return this.#function(`ring_output.${map.index}.${size}`, [I32, I64, I64], [I64], (code) => {
      const payload = code.local(I32);
      const BPF_RB_WAKEUP_FLAGS = 3;
      code.get(2).i64(~BPF_RB_WAKEUP_FLAGS).op(OP.i64And, OP.i64Eqz, OP.i32Eqz);
      code.if();
      code.i64(-ERRNO.EINVAL).op(OP.return);
      code.end();
      code.get(1).i64(0).call(reserve.index).tee(payload).op(OP.i32Eqz);
      code.if();
      code.i64(-ERRNO.EAGAIN).op(OP.return);
      code.end();
      if (size !== undefined) emitCopy(code, payload, 0, 0, 0, size);
      else code.get(payload).get(0).get(1).op(OP.i32WrapI64).memoryCopy();
      code.get(payload).get(2).call(submit.index);
      code.i64(0);
    });
  }

  /** (flags: i64) → i64: bpf_ringbuf_query. */
  ringQuery(map: PlacedMap): Func {
    return this.#function(`ring_query.${map.index}`, [I64], [I64], (code) => {
      const load = (field: number): Code =>
        code
          .i32(map.address + field)
          .atomic(ATOMIC.i32Load, 4, 0)
          .op(OP.i64ExtendI32U);
      const when = (flag: number, push: () => void): void => {
        code.get(0).i64(flag).op(OP.i64Eq);
        code.if();
        push();
        code.op(OP.return);
        code.end();
      };
      when(0, () => {
        code.i32(map.address + RING_HEADER.producerPos).atomic(ATOMIC.i32Load, 4, 0);
        code.i32(map.address + RING_HEADER.consumerPos).atomic(ATOMIC.i32Load, 4, 0);
        code.op(OP.i32Sub, OP.i64ExtendI32U);
      });
      when(1, () => code.i64(map.spec.maxEntries));
      when(2, () => load(RING_HEADER.consumerPos));
      when(3, () => load(RING_HEADER.producerPos));
      code.i64(0);
    });
  }
}

/** Pushes the address of the element in a slot of a slab that is one piece. */
function emitSlot(code: Code, { address, geometry }: PlacedMap, slot: number): void {
  code
    .get(slot)
    .i32(geometry.stride)
    .op(OP.i32Mul)
    .i32(address + geometry.data)
    .op(OP.i32Add);
}

/** Pushes the address of the chunk that a slot is in, or 0. */
function emitChunk(code: Code, { address, geometry }: PlacedMap, slot: number): void {
  code.get(slot).i32(geometry.chunkShift!).op(OP.i32ShrU).i32(2).op(OP.i32Shl);
  code
    .i32(address + geometry.data)
    .op(OP.i32Add)
    .atomic(ATOMIC.i32Load, 4, 0);
}

/** Pushes the address of the element in a slot of a chunk. */
function emitChunkSlot(code: Code, { geometry }: PlacedMap, slot: number, chunk: number): void {
  code
    .get(slot)
    .i32((1 << geometry.chunkShift!) - 1)
    .op(OP.i32And)
    .i32(geometry.stride)
    .op(OP.i32Mul)
    .get(chunk)
    .op(OP.i32Add);
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

/** A key of a hash map at an address: its words, hash and bucket in locals. */
class HashKey {
  readonly hash: number;
  readonly bucketAddress: number;
  readonly #code: Code;
  readonly #map: PlacedMap;
  readonly #key: number;
  readonly #words: number[] = [];
  readonly endMarker: number;

  constructor(code: Code, map: PlacedMap, key: number) {
    this.#code = code;
    this.#map = map;
    this.#key = key;
    this.hash = code.local(I32);
    this.bucketAddress = code.local(I32);
    this.endMarker = code.local(I32);
  }

  /** Reads the key, sets hash and bucket. */
  emitHash(): void {
    const code = this.#code;
    const { spec, address, geometry } = this.#map;
    const count = Math.ceil(spec.keySize / 8);
    const lanes = Array.from({ length: Math.min(count, 4) }, () => code.local(I64));
    for (const [n, lane] of lanes.entries()) {
      if (n === 0) code.i32(address + MAP_HEADER.hashSeed).mem(OP.i64Load, 0);
      else code.i64(HASH_LANES[n - 1]!);
      code.set(lane);
    }
    const mix = (lane: number, word: () => void): void => {
      code.get(lane);
      word();
      code.op(OP.i64Xor).i64(HASH_MULTIPLIER).op(OP.i64Mul).tee(lane);
      code.get(lane).i64(32).op(OP.i64ShrU, OP.i64Xor).set(lane);
    };
    let first = 0;
    if (count > MAX_WORDS) {
      // All whole groups of four words in a loop.
      const groups = Math.floor(spec.keySize / 32);
      const at = code.local(I32);
      code.get(this.#key).set(at);
      const loop = code.loop();
      for (const [n, lane] of lanes.entries()) mix(lane, () => code.get(at).mem(OP.i64Load, 8 * n));
      code.get(at).i32(32).op(OP.i32Add).tee(at);
      code.get(this.#key).op(OP.i32Sub);
      code.i32(groups * 32).op(OP.i32LtU);
      code.brIf(loop);
      code.end();
      first = groups * 4;
    }
    for (let n = first; n < count; n++) {
      const word = code.local(I64);
      emitWord(code, this.#key, n * 8, spec.keySize);
      code.set(word);
      if (count <= MAX_WORDS) this.#words.push(word);
      mix(lanes[n & 3]!, () => code.get(word));
    }
    for (const lane of lanes.slice(1)) mix(lanes[0]!, () => code.get(lane));
    code.get(lanes[0]!).i64(HASH_MULTIPLIER).op(OP.i64Mul).i64(32).op(OP.i64ShrU, OP.i32WrapI64);
    code.i32(HASH_LIVE).op(OP.i32Or).tee(this.hash);
    code.i32(geometry.mask).op(OP.i32And).tee(this.endMarker);
    code
      .i32(3)
      .op(OP.i32Shl)
      .i32(address + HASH_HEADER.buckets)
      .op(OP.i32Add)
      .set(this.bucketAddress);
    code.get(this.endMarker).i32(1).op(OP.i32Shl).i32(1).op(OP.i32Or).set(this.endMarker);
  }

  /** Pushes 1 when the element has this hash and key. */
  emitMatch(elem: number): void {
    const code = this.#code;
    const { keySize } = this.#map.spec;
    code.get(elem).mem(OP.i32Load, HASH_ELEM.hash).get(this.hash).op(OP.i32Eq);
    code.if(I32);
    if (this.#words.length > 0) {
      for (const [n, word] of this.#words.entries()) {
        code
          .get(elem)
          .mem(OP.i64Load, HASH_ELEM.key + 8 * n)
          .get(word)
          .op(OP.i64Xor);
        if (n > 0) code.op(OP.i64Or);
      }
      code.op(OP.i64Eqz);
    } else {
      // Whole words in a loop, then the last eight bytes, which may overlap.
      const at = code.local(I32);
      const whole = Math.floor(keySize / 8) * 8;
      code.i32(0).set(at);
      const different = code.block();
      const loop = code.loop();
      code.get(this.#key).get(at).op(OP.i32Add).mem(OP.i64Load, 0);
      code.get(elem).get(at).op(OP.i32Add).mem(OP.i64Load, HASH_ELEM.key);
      code.op(OP.i64Ne).brIf(different);
      code.get(at).i32(8).op(OP.i32Add).tee(at).i32(whole).op(OP.i32LtU).brIf(loop);
      code.end();
      code.end();
      code.get(at).i32(whole).op(OP.i32GeU);
      code.get(this.#key).mem(OP.i64Load, keySize - 8);
      code.get(elem).mem(OP.i64Load, HASH_ELEM.key + keySize - 8);
      code.op(OP.i64Eq, OP.i32And);
    }
    code.else().i32(0).end();
  }

  /** Walks the bucket; `found` is emitted where the element's address is in the local that it gets, and has to leave. */
  emitFind(found: (elem: number) => void): void {
    const code = this.#code;
    const elem = code.local(I32);
    const none = code.block();
    const again = code.loop();
    const end = code.block();
    code
      .get(this.bucketAddress)
      .atomic(ATOMIC.i32Load, 4, HASH_BUCKET.head)
      .tee(elem)
      .op(OP.i32Eqz)
      .brIf(none);
    const chain = code.loop();
    code.get(elem).i32(1).op(OP.i32And).brIf(end);
    this.emitMatch(elem);
    code.if();
    found(elem);
    code.end();
    code.get(elem).atomic(ATOMIC.i32Load, 4, HASH_ELEM.next).set(elem).br(chain);
    code.end();
    code.end();
    // The end marker of another bucket: an element moved there while we stood on it.
    code.get(elem).get(this.endMarker).op(OP.i32Ne).brIf(again);
    code.end();
    code.end();
  }

  /** Writes the key, padded with zeros, into an element. */
  emitStoreKey(elem: number): void {
    const code = this.#code;
    const { keySize } = this.#map.spec;
    if (this.#words.length > 0) {
      for (const [n, word] of this.#words.entries()) {
        code
          .get(elem)
          .get(word)
          .mem(OP.i64Store, HASH_ELEM.key + 8 * n);
      }
      return;
    }
    code
      .get(elem)
      .i64(0)
      .mem(OP.i64Store, HASH_ELEM.key + Math.floor((keySize - 1) / 8) * 8);
    emitCopy(code, elem, HASH_ELEM.key, this.#key, 0, keySize);
  }
}
