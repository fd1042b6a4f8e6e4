/**
 * Calls of verified programs: map helpers become functions of the module (array lookups are inlined), other helpers and
 * kfuncs become imports with the types of their declarations, BPF functions are called directly.
 */
import { BpfError, ERRNO } from '../errors.ts';
import { helperById } from '../helpers/helpers.ts';
import { kernelProto } from '../helpers/kernel-protos.ts';
import type { KfuncDecl } from '../helpers/kfunc.ts';
import type { HelperProto } from '../helpers/proto.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { MemoryLayout, PlacedMap } from '../layout.ts';
import { percpuBlock } from '../layout.ts';
import { emitArrayAddress, emitArrayLookup, isArray } from './array.ts';
import { loopFunction, strncmpFunction } from './helper-functions.ts';
import type { FunctionEmitter } from './lower.ts';
import { emitAddCpu } from './map-context.ts';
import { isInlined, MapFunctions } from './maps.ts';
import { ModuleFunctions } from './module-functions.ts';
import { perfOutput, ringCommit, ringOutput, ringQuery, ringReserve } from './ring.ts';
import type { RegState } from './values.ts';
import { ATOMIC, type Code, F64, type Func, I32, I64, OP, type ValType, type WasmModule } from './wasm.ts';

/** Tail calls that a run may make (MAX_TAIL_CALL_CNT). */
export const MAX_TAIL_CALL_CNT = 33;

/** Imports whose types differ from the helper's declaration, because that is faster. */
const IMPORT_TYPES: Record<string, ValType> = {
  get_prandom_u32: I32,
  // 1: the other program ran, and its r0 is in the CPU's result slot.
  tail_call: I32,
};
/** Helpers that share the import of another one. */
export const SAME_IMPORT: Readonly<Record<string, string>> = { ktime_get_boot_ns: 'ktime_get_ns' };
/** Helpers that are emitted here. */
export const BUILT_IN: ReadonlySet<string> = new Set([
  'map_lookup_elem',
  'map_update_elem',
  'map_delete_elem',
  'map_lookup_percpu_elem',
  'ringbuf_reserve',
  'ringbuf_submit',
  'ringbuf_discard',
  'ringbuf_output',
  'ringbuf_query',
  'get_smp_processor_id',
  'loop',
  'for_each_map_elem',
  'strncmp',
]);

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

const valType = (type: 'i32' | 'i64'): ValType => (type === 'i32' ? I32 : I64);

export interface CallTargets {
  /** The Wasm function of a BPF function, declared on first use. */
  subprog(entry: number): Func;
  /** Index in the module's table of a BPF function. */
  functionPointer(entry: number): number;
  /** The exception of bpf_throw(). */
  readonly thrown: number;
}

export class VerifiedCalls {
  readonly #module: WasmModule;
  readonly #layout: MemoryLayout;
  readonly #kfuncs: ReadonlyMap<number, KfuncDecl>;
  readonly #imports = new Map<string, Func>();
  readonly #maps: MapFunctions;
  readonly #targets: CallTargets;
  readonly #pushCpu: (code: Code) => void;
  /** The table of programs by id, if tail calls may go through one. */
  readonly #programs: number | undefined;
  readonly #functions: ModuleFunctions;

  constructor(
    module: WasmModule,
    layout: MemoryLayout,
    kfuncs: readonly KfuncDecl[],
    targets: CallTargets,
    pushCpu: (code: Code) => void,
    programs?: number,
  ) {
    this.#module = module;
    this.#functions = new ModuleFunctions(module);
    this.#layout = layout;
    this.#kfuncs = new Map(kfuncs.map((kfunc) => [kfunc.id, kfunc]));
    this.#targets = targets;
    this.#pushCpu = pushCpu;
    this.#programs = programs;
    this.#maps = new MapFunctions(this.#functions, layout, pushCpu, {
      grow: () => this.#imported('helper', 'map_grow_dyn', [I32, I32], [I32]),
    });
  }

  /** An import, made when it is first called: V8 takes its time over each. */
  #imported(
    module: 'helper' | 'kfunc',
    name: string,
    params: readonly ValType[],
    results: readonly ValType[],
  ): Func {
    const key = `${module}.${name}`;
    let func = this.#imports.get(key);
    if (func === undefined) {
      func = this.#module.importFunc(module, name, params, results);
      this.#imports.set(key, func);
    }
    return func;
  }

  #kfuncImport(kfunc: KfuncDecl): Func {
    const params = kfunc.args.flatMap((arg): ValType[] => (arg === 'u64' ? [I32, I32] : [I32]));
    const results: ValType[] = kfunc.result === 's32' ? [I32] : kfunc.result === 'f64' ? [F64] : [];
    return this.#imported('kfunc', kfunc.name, params, results);
  }

  #helperImport({ name, wasm }: HelperProto): Func {
    const result = IMPORT_TYPES[name] ?? (wasm.result === undefined ? undefined : valType(wasm.result));
    return this.#imported('helper', name, wasm.params.map(valType), result === undefined ? [] : [result]);
  }

  /** For a map that is given by its address. */
  #dynamic({ name, wasm }: HelperProto): Func {
    return this.#imported('helper', `${name}_dyn`, wasm.params.map(valType), [
      wasm.result === 'i32' ? I32 : I64,
    ]);
  }

  /** Whether a call looks up an element of one known array. */
  readsIndex(insn: Insn, state: RegState): boolean {
    if (insn.code !== (isa.BPF_JMP | isa.BPF_CALL) || insn.src !== 0) return false;
    if (insn.imm !== isa.BPF_FUNC_map_lookup_elem) return false;
    const map = state[1];
    return map?.kind === 'map' && isArray(this.#layout.maps[map.index]!);
  }

  /** Whether the call that was emitted last is a lookup in an array, at an index that it has. */
  findsElement(fn: FunctionEmitter, pc: number): boolean {
    const insn = fn.insns[pc]!;
    const map = fn.value(1);
    return (
      map?.kind === 'map' &&
      insn.code === (isa.BPF_JMP | isa.BPF_CALL) &&
      this.readsIndex(insn, [undefined, map]) &&
      fn.largest32() < this.#layout.maps[map.index]!.spec.maxEntries
    );
  }

  emitCall(fn: FunctionEmitter, pc: number): void {
    const insn = fn.insns[pc]!;
    if (isa.BPF_SRC(insn.code) === isa.BPF_X) {
      throw new BpfError('EINVAL', `indirect call at ${pc} in a verified program`);
    }
    if (insn.src === isa.BPF_PSEUDO_CALL) this.#local(fn, pc + 1 + insn.imm);
    else if (insn.src === isa.BPF_PSEUDO_KFUNC_CALL) this.#kfunc(fn, insn.imm);
    else {
      const proto = helperById(insn.imm) ?? kernelProto(insn.imm);
      if (proto === undefined) throw new BpfError('EINVAL', `unknown helper ${insn.imm} at ${pc}`);
      this.#helper(fn, proto);
    }
  }

  #local(fn: FunctionEmitter, entry: number): void {
    for (let reg = 1; reg <= 5; reg++) fn.get(reg);
    fn.code.get(fn.frame).i32(isa.MAX_BPF_STACK).op(OP.i32Add);
    fn.code.call(this.#targets.subprog(entry));
    fn.set(0);
  }

  #kfunc(fn: FunctionEmitter, id: number): void {
    const kfunc = this.#kfuncs.get(id);
    if (kfunc === undefined) throw new BpfError('EINVAL', `unknown kfunc ${id}`);
    const { code } = fn;
    if (kfunc.inline === 'clz64') {
      fn.get(1).op(OP.i64Clz);
      fn.set(0);
      return;
    }
    if (kfunc.name === 'bpf_throw') {
      fn.get(1).throw(this.#targets.thrown);
      return;
    }
    if (kfunc.kernel?.args.includes('func') === true) this.#passFrame(fn);
    for (const [n, arg] of kfunc.args.entries()) {
      fn.get32(n + 1);
      if (arg === 'u64') {
        fn.get(n + 1)
          .i64(32)
          .op(OP.i64ShrU, OP.i32WrapI64);
      }
    }
    code.call(this.#kfuncImport(kfunc));
    switch (kfunc.result) {
      case 's32':
        code.op(OP.i64ExtendI32S);
        break;
      case 'f64':
        code.truncSat(true);
        break;
      case 'slot64':
        this.#loadResultSlot(code);
        break;
      case 'void':
        return;
    }
    fn.set(0);
  }

  #loadResultSlot(code: Code): void {
    this.#percpu(code, percpuBlock(this.#layout, 0).resultSlot);
    code.mem(OP.i64Load, 0);
  }

  #helper(fn: FunctionEmitter, proto: HelperProto): void {
    const { code } = fn;
    const maps = this.#maps;
    switch (proto.name) {
      case 'map_lookup_elem':
        this.#forMap(fn, proto, (map) => {
          if (isArray(map)) {
            const index = fn.scratch(I32);
            fn.load32(2).set(index);
            this.#arrayLookup(fn, map, index, fn.largest32() < map.spec.maxEntries);
          } else {
            fn.get32(2).call(maps.lookup(map)).op(OP.i64ExtendI32U);
          }
        });
        break;
      case 'map_update_elem':
        this.#forMap(fn, proto, (map) => {
          fn.get32(2);
          fn.get32(3);
          fn.get(4).call(maps.update(map));
        });
        break;
      case 'map_delete_elem':
        this.#forMap(fn, proto, (map) => {
          fn.get32(2).call(maps.delete(map));
        });
        break;
      case 'map_lookup_percpu_elem':
        this.#forMap(fn, proto, (map) => {
          fn.get32(2);
          fn.get(3).call(maps.lookupPercpu(map)).op(OP.i64ExtendI32U);
        });
        break;
      case 'ringbuf_reserve':
        this.#forMap(fn, proto, (map) => {
          fn.get(2);
          fn.get(3).call(ringReserve(maps.context, map)).op(OP.i64ExtendI32U);
        });
        break;
      case 'ringbuf_submit':
      case 'ringbuf_discard':
        fn.get32(1);
        fn.get(2).call(ringCommit(maps.context, proto.name === 'ringbuf_discard'));
        return;
      case 'ringbuf_output': {
        const size = smallSize(fn, 3);
        this.#forMap(fn, proto, (map) => {
          fn.get32(2);
          fn.get(3);
          fn.get(4).call(ringOutput(maps.context, map, size));
        });
        break;
      }
      case 'perf_event_output': {
        if (this.#layout.dynamicMaps === true) {
          this.#import(fn, proto);
          break;
        }
        const size = smallSize(fn, 5);
        this.#forMap(fn, proto, (map) => {
          fn.get(3);
          fn.get32(4);
          fn.get(5).call(perfOutput(maps.context, map, size));
        });
        break;
      }
      case 'ringbuf_query':
        this.#forMap(fn, proto, (map) => {
          fn.get(2).call(ringQuery(maps.context, map));
        });
        break;
      case 'get_smp_processor_id':
        this.#pushCpu(code);
        code.op(OP.i64ExtendI32U);
        break;
      case 'loop':
        fn.get(1);
        fn.get32(2);
        fn.get(3);
        fn.get(4);
        code.get(fn.frame).i32(isa.MAX_BPF_STACK).op(OP.i32Add);
        code.call(loopFunction(this.#functions));
        break;
      case 'for_each_map_elem':
        this.#forMap(fn, proto, (map) => {
          fn.get32(2);
          fn.get(3);
          fn.get(4);
          code.get(fn.frame).i32(isa.MAX_BPF_STACK).op(OP.i32Add);
          code.call(maps.forEach(map));
        });
        break;
      case 'strncmp':
        fn.get32(1);
        fn.get32(2);
        fn.get32(3).call(strncmpFunction(this.#functions)).op(OP.i64ExtendI32S);
        break;
      case 'ktime_get_ns':
      case 'ktime_get_boot_ns':
        // Nanoseconds since the clock base in the memory's header: a double, so that no BigInt is made.
        code.call(this.#imported('helper', 'ktime_get_ns', [], [F64])).truncSat(false);
        code.i32(this.#layout.clockBase).mem(OP.i64Load, 0).op(OP.i64Add);
        break;
      case 'tail_call':
        this.#tailCall(fn, proto);
        return;
      case 'get_prandom_u32':
        code.call(this.#helperImport(proto)).op(OP.i64ExtendI32U);
        break;
      default:
        this.#import(fn, proto);
        if (proto.wasm.result === undefined) return;
    }
    fn.set(0);
  }

  /**
   * In the program itself another one is called in place of the rest, as long as it is in the table of programs: the frame is not needed any
   * more. All else is left to the import, which also puts programs into the table.
   */
  #tailCall(fn: FunctionEmitter, proto: HelperProto): void {
    const { code } = fn;
    const known = fn.value(2);
    const map = known?.kind === 'map' ? this.#layout.maps[known.index] : undefined;
    const next = code.block();
    if (this.#programs !== undefined && map !== undefined && fn.kind === 'run') {
      const id = fn.scratch(I32);
      const count = fn.scratch(I32, 1);
      fn.get32(3).tee(id).i32(map.spec.maxEntries).op(OP.i32GeU).brIf(next);
      code.get(id).i32(map.geometry.stride).op(OP.i32Mul);
      code
        .i32(map.address + map.geometry.data)
        .op(OP.i32Add)
        .atomic(ATOMIC.i32Load, 4, 0);
      code.tee(id).op(OP.i32Eqz).brIf(next);
      const slow = code.block();
      code.get(id).tableSize(this.#programs).op(OP.i32GeU).brIf(slow);
      code.get(id).tableIsNull(this.#programs).brIf(slow);
      this.#percpu(code, percpuBlock(this.#layout, 0).tailCalls);
      code.mem(OP.i32Load, 0).tee(count).i32(MAX_TAIL_CALL_CNT).op(OP.i32GeU).brIf(next);
      this.#percpu(code, percpuBlock(this.#layout, 0).tailCalls);
      code.get(count).i32(1).op(OP.i32Add).mem(OP.i32Store, 0);
      fn.get32(1).get(id);
      code.callIndirect(this.#module.type([I32], [I32]), { tail: true, table: this.#programs });
      code.end();
    }
    this.#import(fn, proto);
    code.if();
    this.#loadResultSlot(code);
    fn.emitReturn();
    code.end();
    code.end();
  }

  /** Pushes the address of a field of this CPU's block, of which CPU 0's is given. */
  #percpu(code: Code, address: number): void {
    if (this.#layout.ncpu === 1) {
      code.i32(address);
      return;
    }
    this.#pushCpu(code);
    code.i32(this.#layout.percpuStride).op(OP.i32Mul).i32(address).op(OP.i32Add);
  }

  /** The frame below is where a helper's callbacks begin: left in the result slot, before the call. */
  #passFrame(fn: FunctionEmitter): void {
    const { code, frame } = fn;
    this.#percpu(code, percpuBlock(this.#layout, 0).resultSlot);
    code.get(frame).i32(isa.MAX_BPF_STACK).op(OP.i32Add).mem(OP.i32Store, 0);
  }

  #import(fn: FunctionEmitter, proto: HelperProto): void {
    if (proto.args.includes('func')) this.#passFrame(fn);
    for (const [n, type] of proto.wasm.params.entries()) {
      if (proto.args[n] === 'const_map_ptr' && this.#layout.dynamicMaps !== true) {
        this.#forMap(fn, proto, (map) => fn.code.i64(map.index));
        fn.code.op(OP.i32WrapI64);
      } else if (type === 'i32') fn.get32(n + 1);
      else fn.get(n + 1);
    }
    fn.code.call(this.#helperImport(proto));
    if (proto.wasm.result === 'i32') fn.code.op(OP.i64ExtendI32U);
  }

  /**
   * Emits an operation on the map among the arguments, which leaves an i64: once where the map is known at compile time, else once for
   * every map that it may be, chosen by address.
   */
  #forMap(fn: FunctionEmitter, proto: HelperProto, emit: (map: PlacedMap) => void): void {
    const register = proto.args.indexOf('const_map_ptr') + 1;
    const known = fn.value(register);
    const dynamic = this.#layout.dynamicMaps === true && DYNAMIC.has(proto.name);
    if (known?.kind === 'map') {
      const map = this.#layout.maps[known.index]!;
      if (dynamic && !isInlined(map, proto.name)) this.#importedMap(fn, proto);
      else emit(map);
      return;
    }
    const { code } = fn;
    const candidates = this.#layout.maps.filter(
      (map) => mayBe(proto, map) && (!dynamic || isInlined(map, proto.name)),
    );
    for (const map of candidates) {
      fn.get32(register).i32(map.address).op(OP.i32Eq);
      code.if(I64);
      emit(map);
      code.else();
    }
    if (dynamic) this.#importedMap(fn, proto);
    else code.i64(proto.wasm.result === 'i64' ? -ERRNO.EINVAL : 0);
    for (const _ of candidates) code.end();
  }

  #importedMap(fn: FunctionEmitter, proto: HelperProto): void {
    if (proto.args.includes('func')) this.#passFrame(fn);
    for (const [n, type] of proto.wasm.params.entries()) {
      if (type === 'i32') fn.get32(n + 1);
      else fn.get(n + 1);
    }
    fn.code.call(this.#dynamic(proto));
    if (proto.wasm.result === 'i32') fn.code.op(OP.i64ExtendI32U);
  }

  #arrayLookup(fn: FunctionEmitter, map: PlacedMap, index: number, isInside: boolean): void {
    const { code } = fn;
    if (isInside) {
      emitArrayAddress(code, map, index);
      emitAddCpu(this.#maps.context, code, map);
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
    emitAddCpu(this.#maps.context, code, map);
    code.op(OP.i64ExtendI32U);
    code.else().i64(0).end();
  }
}

/** The size in a register, where it is known and so small that a copy of that many bytes is unrolled. */
function smallSize(fn: FunctionEmitter, register: number): number | undefined {
  const known = fn.value(register);
  return known?.kind === 'const' && known.value <= 128n ? Number(known.value) : undefined;
}

/** Whether a helper takes such a map; where maps stand in a layout, perf event arrays are rings. */
function mayBe({ name, maps }: HelperProto, { spec: { type } }: PlacedMap): boolean {
  return name === 'perf_event_output' ? type === 'ringbuf' : (maps?.includes(type) ?? true);
}
