/**
 * Which map a call is about: known when the program is compiled, or one of those that the helper takes, or one of which the module has only
 * the address.
 */
import { ERRNO } from '../errors.ts';
import type { HelperProto } from '../helpers/proto.ts';
import type { MemoryLayout, PlacedMap } from '../layout.ts';
import { emitArrayAddress, emitArrayLookup } from './array.ts';
import type { CpuBlock } from './cpu-block.ts';
import type { FunctionEmitter } from './emitter.ts';
import type { Imports } from './imports.ts';
import { emitAddCpu, type MapContext } from './map-context.ts';
import { isInlined } from './maps.ts';
import { I64, OP } from './wasm.ts';

/** Map operations that exist as imports too, `helper.<name>_dyn`, for maps that this module has no code for. */
const DYNAMIC: ReadonlySet<string> = new Set([
  'map_lookup_elem',
  'map_update_elem',
  'map_delete_elem',
  'map_lookup_percpu_elem',
  'for_each_map_elem',
  'ringbuf_reserve',
  'ringbuf_output',
  'ringbuf_query',
]);

/** Operations on the map that a call is given. */
export class MapCalls {
  readonly #layout: MemoryLayout;
  readonly #imports: Imports;
  readonly #block: CpuBlock;
  readonly #context: MapContext;

  constructor(imports: Imports, block: CpuBlock, context: MapContext) {
    this.#layout = context.layout;
    this.#imports = imports;
    this.#block = block;
    this.#context = context;
  }

  /**
   * Emits an operation on the map among the arguments, which leaves an i64: once where the map is known at compile time, else once for
   * every map that it may be, chosen by address.
   */
  emit(fn: FunctionEmitter, proto: HelperProto, operation: (map: PlacedMap) => void): void {
    const register = proto.args.indexOf('const_map_ptr') + 1;
    const known = fn.value(register);
    const dynamic = this.#layout.dynamicMaps === true && DYNAMIC.has(proto.name);
    if (known?.kind === 'map') {
      const map = this.#layout.maps[known.index]!;
      if (dynamic && !isInlined(map, proto.name)) this.#importedMap(fn, proto);
      else operation(map);
      return;
    }
    const { code } = fn;
    const candidates = this.#layout.maps.filter(
      (map) => mayBe(proto, map) && (!dynamic || isInlined(map, proto.name)),
    );
    for (const map of candidates) {
      fn.get32(register).i32(map.address).op(OP.i32Eq);
      code.if(I64);
      operation(map);
      code.else();
    }
    if (dynamic) this.#importedMap(fn, proto);
    else code.i64(proto.wasm.result === 'i64' ? -ERRNO.EINVAL : 0);
    for (const _ of candidates) code.end();
  }

  #importedMap(fn: FunctionEmitter, proto: HelperProto): void {
    if (proto.args.includes('func')) this.#block.emitPassFrame(fn);
    for (const [n, type] of proto.wasm.params.entries()) {
      if (type === 'i32') fn.get32(n + 1);
      else fn.get(n + 1);
    }
    fn.code.call(this.#imports.dynamic(proto));
    if (proto.wasm.result === 'i32') fn.code.op(OP.i64ExtendI32U);
  }

  /** The address of the element at an index in a local, as i64; 0 where there is none. */
  emitArrayLookup(fn: FunctionEmitter, map: PlacedMap, index: number, isInside: boolean): void {
    const { code } = fn;
    if (isInside) {
      emitArrayAddress(code, map, index);
      emitAddCpu(this.#context, code, map);
      code.op(OP.i64ExtendI32U);
      return;
    }
    if (!map.geometry.percpu || this.#layout.ncpu === 1) {
      emitArrayLookup(code, map, index);
      code.op(OP.i64ExtendI32U);
      return;
    }
    code.get(index).i32(map.spec.maxEntries).op(OP.i32LtU);
    code.if(I64);
    emitArrayAddress(code, map, index);
    emitAddCpu(this.#context, code, map);
    code.op(OP.i64ExtendI32U);
    code.else().i64(0).end();
  }
}

/** Whether a helper takes such a map; where maps stand in a layout, perf event arrays are rings. */
function mayBe({ name, maps }: HelperProto, { spec: { type } }: PlacedMap): boolean {
  return name === 'perf_event_output' ? type === 'ringbuf' : (maps?.includes(type) ?? true);
}
