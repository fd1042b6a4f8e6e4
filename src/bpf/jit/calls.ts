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
import type { FunctionEmitter } from './lower.ts';
import { emitArrayAddress, emitArrayLookup, isArray, isInlined, MapFunctions } from './maps.ts';
import type { RegState } from './values.ts';
import { Code, F64, type Func, I32, I64, OP, type ValType, type WasmModule } from './wasm.ts';

/** Most iterations of bpf_loop (BPF_MAX_LOOPS). */
const MAX_LOOP_ITERATIONS = isa.BPF_MAX_LOOPS;

/** Imports whose types differ from the helper's declaration, because that is faster. */
const IMPORT_TYPES: Record<string, ValType> = {
  // Nanoseconds since the clock base in the memory's header: a double, so that no BigInt is made.
  ktime_get_ns: F64,
  get_prandom_u32: I32,
  // 1: the other program ran, and its r0 is in the CPU's result slot.
  tail_call: I32,
};
/** Helpers that share the import of another one. */
const SAME_IMPORT: Record<string, string> = { ktime_get_boot_ns: 'ktime_get_ns' };
/** Helpers that are emitted here. */
const BUILT_IN = new Set([
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
  readonly #built = new Map<string, Func>();

  /** Declares the imports: has to come before any function of the module. */
  constructor(
    module: WasmModule,
    layout: MemoryLayout,
    helpersUsed: readonly string[],
    kfuncs: readonly KfuncDecl[],
    targets: CallTargets,
    pushCpu: (code: Code) => void,
  ) {
    this.#module = module;
    this.#layout = layout;
    this.#kfuncs = new Map(kfuncs.map((kfunc) => [kfunc.id, kfunc]));
    this.#targets = targets;
    this.#pushCpu = pushCpu;
    const hasChunks = layout.maps.some(({ geometry }) => geometry.chunkShift !== undefined);
    const grow = hasChunks ? module.importFunc('helper', 'map_grow_dyn', [I32, I32], [I32]) : undefined;
    for (const kfunc of kfuncs) {
      if (kfunc.inline === undefined && kfunc.name !== 'bpf_throw') this.#importKfunc(kfunc);
    }
    for (const name of helpersUsed) this.#importHelper(name);
    const update = this.#imports.get('helper.map_update_elem_dyn');
    this.#maps = new MapFunctions(module, layout, pushCpu, { grow, update });
  }

  #importKfunc(kfunc: KfuncDecl): void {
    const params = kfunc.args.flatMap((arg): ValType[] => (arg === 'u64' ? [I32, I32] : [I32]));
    const results: ValType[] = kfunc.result === 's32' ? [I32] : kfunc.result === 'f64' ? [F64] : [];
    this.#imports.set(`kfunc.${kfunc.name}`, this.#module.importFunc('kfunc', kfunc.name, params, results));
  }

  #importHelper(helper: string): void {
    if (BUILT_IN.has(helper)) {
      if (this.#layout.dynamicMaps === true && DYNAMIC.has(helper)) this.#importDynamic(helper);
      return;
    }
    const name = SAME_IMPORT[helper] ?? helper;
    if (this.#imports.has(`helper.${name}`)) return;
    const proto = helperByName(name);
    const type = (text: 'i32' | 'i64'): ValType => (text === 'i32' ? I32 : I64);
    const params = proto.wasm.params.map(type);
    const result =
      IMPORT_TYPES[name] ?? (proto.wasm.result === undefined ? undefined : type(proto.wasm.result));
    const results: ValType[] = result === undefined ? [] : [result];
    this.#imports.set(`helper.${name}`, this.#module.importFunc('helper', name, params, results));
  }

  /** The map is given by its address. */
  #importDynamic(helper: string): void {
    const name = `${helper}_dyn`;
    const proto = helperByName(helper);
    const params = proto.wasm.params.map((type): ValType => (type === 'i32' ? I32 : I64));
    const results: ValType[] = [proto.wasm.result === 'i32' ? I32 : I64];
    this.#imports.set(`helper.${name}`, this.#module.importFunc('helper', name, params, results));
  }

  /** Whether a call looks up an element of one known array. */
  readsIndex(insn: Insn, state: RegState): boolean {
    if (insn.code !== (isa.BPF_JMP | isa.BPF_CALL) || insn.src !== 0) return false;
    if (insn.imm !== isa.BPF_FUNC_map_lookup_elem) return false;
    const map = state[1];
    return map?.kind === 'map' && isArray(this.#layout.maps[map.index]!);
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
    fn.code.call(this.#targets.subprog(entry).index);
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
    code.call(this.#imports.get(`kfunc.${kfunc.name}`)!.index);
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
    const { resultSlot } = percpuBlock(this.#layout, 0);
    if (this.#layout.ncpu === 1) code.i32(resultSlot).mem(OP.i64Load, 0);
    else {
      this.#pushCpu(code);
      code.i32(this.#layout.percpuStride).op(OP.i32Mul).mem(OP.i64Load, resultSlot);
    }
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
            this.#arrayLookup(fn, map, index);
          } else {
            fn.get32(2).call(maps.lookup(map).index).op(OP.i64ExtendI32U);
          }
        });
        break;
      case 'map_update_elem':
        this.#forMap(fn, proto, (map) => {
          fn.get32(2);
          fn.get32(3);
          fn.get(4).call(maps.update(map).index);
        });
        break;
      case 'map_delete_elem':
        this.#forMap(fn, proto, (map) => {
          fn.get32(2).call(maps.delete(map).index);
        });
        break;
      case 'map_lookup_percpu_elem':
        this.#forMap(fn, proto, (map) => {
          fn.get32(2);
          fn.get(3).call(maps.lookupPercpu(map).index).op(OP.i64ExtendI32U);
        });
        break;
      case 'ringbuf_reserve':
        this.#forMap(fn, proto, (map) => {
          fn.get(2);
          fn.get(3).call(maps.ringReserve(map).index).op(OP.i64ExtendI32U);
        });
        break;
      case 'ringbuf_submit':
      case 'ringbuf_discard':
        fn.get32(1);
        fn.get(2).call(maps.ringCommit(proto.name === 'ringbuf_discard').index);
        return;
      case 'ringbuf_output': {
        const known = fn.value(3);
        const size = known?.kind === 'const' && known.value <= 128n ? Number(known.value) : undefined;
        this.#forMap(fn, proto, (map) => {
          fn.get32(2);
          fn.get(3);
          fn.get(4).call(maps.ringOutput(map, size).index);
        });
        break;
      }
      case 'ringbuf_query':
        this.#forMap(fn, proto, (map) => {
          fn.get(2).call(maps.ringQuery(map).index);
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
        code.call(this.#loop().index);
        break;
      case 'for_each_map_elem':
        this.#forMap(fn, proto, (map) => {
          fn.get32(2);
          fn.get(3);
          fn.get(4);
          code.get(fn.frame).i32(isa.MAX_BPF_STACK).op(OP.i32Add);
          code.call(maps.forEach(map).index);
        });
        break;
      case 'strncmp':
        fn.get32(1);
        fn.get32(2);
        fn.get32(3).call(this.#strncmp().index).op(OP.i64ExtendI32S);
        break;
      case 'ktime_get_ns':
      case 'ktime_get_boot_ns':
        code.call(this.#imports.get('helper.ktime_get_ns')!.index).truncSat(false);
        code.i32(this.#layout.clockBase).mem(OP.i64Load, 0).op(OP.i64Add);
        break;
      case 'tail_call':
        this.#import(fn, proto);
        code.if();
        this.#loadResultSlot(code);
        fn.emitReturn();
        code.end();
        return;
      case 'get_prandom_u32':
        code.call(this.#imports.get('helper.get_prandom_u32')!.index).op(OP.i64ExtendI32U);
        break;
      default:
        this.#import(fn, proto);
        if (proto.wasm.result === undefined) return;
    }
    fn.set(0);
  }

  /** The frame below is where a helper's callbacks begin: left in the result slot, before the call. */
  #passFrame(fn: FunctionEmitter): void {
    const { code, frame } = fn;
    const { resultSlot } = percpuBlock(this.#layout, 0);
    if (this.#layout.ncpu === 1) code.i32(resultSlot);
    else {
      this.#pushCpu(code);
      code.i32(this.#layout.percpuStride).op(OP.i32Mul).i32(resultSlot).op(OP.i32Add);
    }
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
    fn.code.call(this.#imports.get(`helper.${proto.name}`)!.index);
    if (proto.wasm.result === 'i32') fn.code.op(OP.i64ExtendI32U);
  }

  /**
   * Emits an operation on the map in r1, which leaves an i64: once where the map is known at compile time, else once for every
   * map that it may be, chosen by address.
   */
  #forMap(fn: FunctionEmitter, proto: HelperProto, emit: (map: PlacedMap) => void): void {
    const known = fn.value(1);
    const dynamic = this.#layout.dynamicMaps === true && DYNAMIC.has(proto.name);
    if (known?.kind === 'map') {
      const map = this.#layout.maps[known.index]!;
      if (dynamic && !isInlined(map, proto.name)) this.#importedMap(fn, proto);
      else emit(map);
      return;
    }
    const { code } = fn;
    const candidates = this.#layout.maps.filter(
      (map) => (proto.maps?.includes(map.spec.type) ?? true) && (!dynamic || isInlined(map, proto.name)),
    );
    for (const map of candidates) {
      fn.get32(1).i32(map.address).op(OP.i32Eq);
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
    fn.code.call(this.#imports.get(`helper.${proto.name}_dyn`)!.index);
    if (proto.wasm.result === 'i32') fn.code.op(OP.i64ExtendI32U);
  }

  #arrayLookup(fn: FunctionEmitter, map: PlacedMap, index: number): void {
    const { code } = fn;
    if (!map.geometry.percpu || this.#layout.ncpu === 1) {
      emitArrayLookup(code, map, index);
      code.op(OP.i64ExtendI32U);
      return;
    }
    code.get(index).i32(map.spec.maxEntries).op(OP.i32LtU);
    code.if(I64);
    emitArrayAddress(code, map, index);
    this.#maps.addCpu(code, map);
    code.op(OP.i64ExtendI32U);
    code.else().i64(0).end();
  }

  #once(
    name: string,
    params: readonly ValType[],
    results: readonly ValType[],
    emit: (code: Code) => void,
  ): Func {
    const known = this.#built.get(name);
    if (known !== undefined) return known;
    const func = this.#module.declare(params, results);
    this.#built.set(name, func);
    const code = new Code(params.length);
    emit(code);
    this.#module.define(func, code);
    return func;
  }

  /** bpf_loop: (nr: i64, callback: i32, ctx: i64, flags: i64, frame: i32) → i64, the number of iterations done. */
  #loop(): Func {
    return this.#once('loop', [I64, I32, I64, I64, I32], [I64], (code) => {
      const done = code.local(I64);
      code.get(3).op(OP.i64Eqz, OP.i32Eqz);
      code.if();
      code.i64(-ERRNO.EINVAL).op(OP.return);
      code.end();
      // u32 nr_loops
      code.get(0).i64(0xffffffff).op(OP.i64And).tee(0).i64(MAX_LOOP_ITERATIONS).op(OP.i64GtU);
      code.if();
      code.i64(-ERRNO.E2BIG).op(OP.return);
      code.end();
      const end = code.block();
      const loop = code.loop();
      code.get(done).get(0).op(OP.i64GeU).brIf(end);
      code.get(done).get(2).i64(0).i64(0).i64(0).get(4).get(1);
      code.callIndirect(this.#module.type([I64, I64, I64, I64, I64, I32], [I64]));
      code.get(done).i64(1).op(OP.i64Add).set(done);
      code.op(OP.i64Eqz).brIf(loop);
      code.end();
      code.end();
      code.get(done);
    });
  }

  /** (a: i32, size: i32, b: i32) → i32, as strncmp(): below, equal or above 0. */
  #strncmp(): Func {
    return this.#once('strncmp', [I32, I32, I32], [I32], (code) => {
      const i64Load8 = (address: number): Code => code.get(address).mem(OP.i64Load8U, 0).op(OP.i32WrapI64);
      const left = code.local(I32);
      const end = code.block();
      const loop = code.loop();
      code.get(1).op(OP.i32Eqz).brIf(end);
      i64Load8(0).tee(left);
      i64Load8(2).op(OP.i32Ne);
      code.if();
      code.get(left);
      i64Load8(2).op(OP.i32Sub, OP.return);
      code.end();
      code.get(left).op(OP.i32Eqz).brIf(end);
      for (const pointer of [0, 2]) code.get(pointer).i32(1).op(OP.i32Add).set(pointer);
      code.get(1).i32(1).op(OP.i32Sub).set(1).br(loop);
      code.end();
      code.end();
      code.i32(0);
    });
  }
}

function helperByName(name: string): HelperProto {
  for (let id = 1; id < 256; id++) {
    const proto = helperById(id) ?? kernelProto(id);
    if (proto?.name === name) return proto;
  }
  throw new BpfError('EINVAL', `unknown helper ${name}`);
}
