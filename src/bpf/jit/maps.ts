/**
 * Map operations as Wasm functions, one set a map: key size, value size and all addresses are constants, keys are hashed
 * and compared in registers. The algorithms and the layout are those of ../maps/README.md.
 */
import { ERRNO } from '../errors.ts';
import type { MemoryLayout, PlacedMap } from '../layout.ts';
import { BPF_EXIST, BPF_F_LOCK } from '../maps/map-layout.ts';
import { emitArrayForEach, emitArrayLookup, emitArrayUpdate, isArray } from './array.ts';
import { emitHashDelete, emitHashForEach, emitHashUpdate } from './hash.ts';
import { HashKey } from './hash-key.ts';
import { emitAddCpu, type MapContext, type MapImports, type PushCpu } from './map-context.ts';
import type { ModuleFunctions } from './module-functions.ts';
import { ATOMIC, type Func, I32, I64, OP } from './wasm.ts';

/** Whether a helper on such a map has code here; all others go through imports. */
export function isInlined({ spec }: PlacedMap, helper: string): boolean {
  switch (spec.type) {
    case 'array':
    case 'percpu_array':
      return helper !== 'map_update_elem' || spec.record === undefined;
    case 'hash':
    case 'percpu_hash':
    case 'lru_hash':
    case 'lru_percpu_hash':
      return spec.record === undefined || !/update|delete/.test(helper);
    case 'array_of_maps':
    case 'hash_of_maps':
      return helper === 'map_lookup_elem';
    case 'ringbuf':
      return helper.startsWith('ringbuf');
    default:
      return false;
  }
}

export class MapFunctions {
  readonly context: MapContext;

  constructor(functions: ModuleFunctions, layout: MemoryLayout, pushCpu: PushCpu, imports: MapImports) {
    this.context = { functions, layout, pushCpu, imports };
  }

  /** (key: i32) → i32: address of CPU 0's value, or 0. */
  find(map: PlacedMap): Func {
    return this.context.functions.once(`find.${map.index}`, [I32], [I32], (code) => {
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
    return this.context.functions.once(`lookup.${map.index}`, [I32], [I32], (code) => {
      const value = code.local(I32);
      code.get(0).call(find).tee(value);
      code.if(I32);
      code.get(value);
      if (isOuter) code.atomic(ATOMIC.i32Load, 4, 0);
      else emitAddCpu(this.context, code, map);
      code.else().i32(0).end();
    });
  }

  /** (key: i32, cpu: i64) → i32: address of that CPU's value, or 0. */
  lookupPercpu(map: PlacedMap): Func {
    const find = this.find(map);
    return this.context.functions.once(`lookup_percpu.${map.index}`, [I32, I64], [I32], (code) => {
      const value = code.local(I32);
      code.get(1).op(OP.i32WrapI64).i32(this.context.layout.ncpu).op(OP.i32GeU);
      code.if();
      code.i32(0).op(OP.return);
      code.end();
      code.get(0).call(find).tee(value);
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
    return this.context.functions.once(`for_each.${map.index}`, [I32, I64, I64, I32], [I64], (code) => {
      code.get(2).op(OP.i64Eqz, OP.i32Eqz);
      code.if();
      code.i64(-ERRNO.EINVAL).op(OP.return);
      code.end();
      if (isArray(map)) emitArrayForEach(this.context, code, map);
      else emitHashForEach(this.context, code, map);
    });
  }

  /** (key: i32, value: i32, flags: i64) → i64: 0 or -errno. */
  update(map: PlacedMap): Func {
    return this.context.functions.once(`update.${map.index}`, [I32, I32, I64], [I64], (code) => {
      code.get(2);
      if (isArray(map)) code.i64(~BPF_F_LOCK).op(OP.i64And);
      code.i64(BPF_EXIST).op(OP.i64GtU);
      code.if();
      code.i64(-ERRNO.EINVAL).op(OP.return);
      code.end();
      if (isArray(map)) emitArrayUpdate(this.context, code, map);
      else emitHashUpdate(this.context, code, map);
    });
  }

  /** (key: i32) → i64: 0 or -errno. */
  delete(map: PlacedMap): Func {
    return this.context.functions.once(`delete.${map.index}`, [I32], [I64], (code) => {
      if (isArray(map)) code.i64(-ERRNO.EINVAL);
      else emitHashDelete(this.context, code, map);
    });
  }
}
