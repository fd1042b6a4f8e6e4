/**
 * Calls of verified programs: map helpers become functions of the module (array lookups are inlined), other helpers and
 * kfuncs become imports with the types of their declarations, BPF functions are called directly.
 */
import { BpfError } from '../errors.ts';
import { helperById } from '../helpers/helpers.ts';
import { kernelProto } from '../helpers/kernel-protos.ts';
import type { KfuncDecl } from '../helpers/kfunc.ts';
import type { HelperProto } from '../helpers/proto.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { MemoryLayout } from '../layout.ts';
import { isArray } from './array.ts';
import type { CpuBlock } from './cpu-block.ts';
import type { FunctionEmitter } from './emitter.ts';
import { loopFunction, strncmpFunction } from './helper-functions.ts';
import { Imports } from './imports.ts';
import { MapCalls } from './map-calls.ts';
import { MapFunctions } from './maps.ts';
import { ModuleFunctions } from './module-functions.ts';
import { perfOutput, ringCommit, ringOutput, ringQuery, ringReserve } from './ring.ts';
import type { RegState } from './values.ts';
import { ATOMIC, F64, type Func, I32, OP, type WasmModule } from './wasm.ts';

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
  readonly #imports: Imports;
  readonly #block: CpuBlock;
  readonly #mapCalls: MapCalls;
  readonly #maps: MapFunctions;
  readonly #targets: CallTargets;
  /** The table of programs by id, if tail calls may go through one. */
  readonly #programs: number | undefined;
  readonly #functions: ModuleFunctions;

  constructor(
    module: WasmModule,
    layout: MemoryLayout,
    kfuncs: readonly KfuncDecl[],
    targets: CallTargets,
    block: CpuBlock,
    programs?: number,
  ) {
    this.#module = module;
    this.#imports = new Imports(module);
    this.#block = block;
    this.#functions = new ModuleFunctions(module);
    this.#layout = layout;
    this.#kfuncs = new Map(kfuncs.map((kfunc) => [kfunc.id, kfunc]));
    this.#targets = targets;
    this.#programs = programs;
    this.#maps = new MapFunctions(this.#functions, layout, block.pushCpu, {
      grow: () => this.#imports.imported('helper', 'map_grow_dyn', [I32, I32], [I32]),
    });
    this.#mapCalls = new MapCalls(this.#imports, block, this.#maps.context);
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
    if (kfunc.kernel?.args.includes('func') === true) this.#block.emitPassFrame(fn);
    for (const [n, arg] of kfunc.args.entries()) {
      fn.get32(n + 1);
      if (arg === 'u64') {
        fn.get(n + 1)
          .i64(32)
          .op(OP.i64ShrU, OP.i32WrapI64);
      }
    }
    code.call(this.#imports.kfunc(kfunc));
    switch (kfunc.result) {
      case 's32':
        code.op(OP.i64ExtendI32S);
        break;
      case 'f64':
        code.truncSat(true);
        break;
      case 'slot64':
        this.#block.emitResult(code);
        break;
      case 'void':
        return;
    }
    fn.set(0);
  }

  #helper(fn: FunctionEmitter, proto: HelperProto): void {
    const { code } = fn;
    const maps = this.#maps;
    switch (proto.name) {
      case 'map_lookup_elem':
        this.#mapCalls.emit(fn, proto, (map) => {
          if (isArray(map)) {
            const index = fn.scratch(I32);
            fn.load32(2).set(index);
            this.#mapCalls.emitArrayLookup(fn, map, index, fn.largest32() < map.spec.maxEntries);
          } else {
            fn.get32(2).call(maps.lookup(map)).op(OP.i64ExtendI32U);
          }
        });
        break;
      case 'map_update_elem':
        this.#mapCalls.emit(fn, proto, (map) => {
          fn.get32(2);
          fn.get32(3);
          fn.get(4).call(maps.update(map));
        });
        break;
      case 'map_delete_elem':
        this.#mapCalls.emit(fn, proto, (map) => {
          fn.get32(2).call(maps.delete(map));
        });
        break;
      case 'map_lookup_percpu_elem':
        this.#mapCalls.emit(fn, proto, (map) => {
          fn.get32(2);
          fn.get(3).call(maps.lookupPercpu(map)).op(OP.i64ExtendI32U);
        });
        break;
      case 'ringbuf_reserve':
        this.#mapCalls.emit(fn, proto, (map) => {
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
        this.#mapCalls.emit(fn, proto, (map) => {
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
        this.#mapCalls.emit(fn, proto, (map) => {
          fn.get(3);
          fn.get32(4);
          fn.get(5).call(perfOutput(maps.context, map, size));
        });
        break;
      }
      case 'ringbuf_query':
        this.#mapCalls.emit(fn, proto, (map) => {
          fn.get(2).call(ringQuery(maps.context, map));
        });
        break;
      case 'get_smp_processor_id':
        this.#block.pushCpu(code);
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
        this.#mapCalls.emit(fn, proto, (map) => {
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
        code.call(this.#imports.imported('helper', 'ktime_get_ns', [], [F64])).truncSat(false);
        code.i32(this.#layout.clockBase).mem(OP.i64Load, 0).op(OP.i64Add);
        break;
      case 'tail_call':
        this.#tailCall(fn, proto);
        return;
      case 'get_prandom_u32':
        code.call(this.#imports.helper(proto)).op(OP.i64ExtendI32U);
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
      this.#block.emitAddress(code, this.#block.first.tailCalls);
      code.mem(OP.i32Load, 0).tee(count).i32(isa.MAX_TAIL_CALL_CNT).op(OP.i32GeU).brIf(next);
      this.#block.emitAddress(code, this.#block.first.tailCalls);
      code.get(count).i32(1).op(OP.i32Add).mem(OP.i32Store, 0);
      fn.get32(1).get(id);
      code.callIndirect(this.#module.type([I32], [I32]), { tail: true, table: this.#programs });
      code.end();
    }
    this.#import(fn, proto);
    code.if();
    this.#block.emitResult(code);
    fn.emitReturn();
    code.end();
    code.end();
  }

  #import(fn: FunctionEmitter, proto: HelperProto): void {
    if (proto.args.includes('func')) this.#block.emitPassFrame(fn);
    for (const [n, type] of proto.wasm.params.entries()) {
      if (proto.args[n] === 'const_map_ptr' && this.#layout.dynamicMaps !== true) {
        this.#mapCalls.emit(fn, proto, (map) => fn.code.i64(map.index));
        fn.code.op(OP.i32WrapI64);
      } else if (type === 'i32') fn.get32(n + 1);
      else fn.get(n + 1);
    }
    fn.code.call(this.#imports.helper(proto));
    if (proto.wasm.result === 'i32') fn.code.op(OP.i64ExtendI32U);
  }
}

/** The size in a register, where it is known and so small that a copy of that many bytes is unrolled. */
function smallSize(fn: FunctionEmitter, register: number): number | undefined {
  const known = fn.value(register);
  return known?.kind === 'const' && known.value <= 128n ? Number(known.value) : undefined;
}
