/**
 * Programs that no verifier has seen, for tests of the engine: r1 and r2 are given, helpers are imports that get and give
 * BigInts, `callx` takes a helper's id from a register, programs may tail-call each other. Memory accesses are checked by
 * WebAssembly itself.
 */

import { insnList } from '../argument-shapes.ts';
import { checkArgument, having } from '../arguments.ts';
import { BpfError } from '../errors.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { ENTRY_TYPES, type FunctionEmitter } from './emitter.ts';
import { type LowerContext, lowerFunction } from './lower.ts';
import { PacketLoads } from './packet.ts';
import { Code, type Func, I32, I64, type MemoryImport, OP, WasmModule } from './wasm.ts';

export interface RawOptions {
  readonly memory: MemoryImport;
  /** Address of the stack area: frame n is [stack + 512 n, stack + 512 (n + 1)). */
  readonly stack: number;
  /** How deep BPF functions may nest; deeper calls trap. Default MAX_CALL_FRAMES. */
  readonly maxFrames?: number;
  /** Helpers that exist: imports `helper.<id>` of type (i64 × 5) → i64. */
  readonly helpers?: readonly number[];
  /** The program ends when this helper gives 0. */
  readonly unwindHelper?: number;
  /** What bpf_tail_call's index selects; r1 stays the first argument. */
  readonly tailCalls?: readonly (readonly Insn[] | undefined)[];
}

/** Compiles to a module that exports `run64(r1: i64, r2: i64) → i64`. Throws BpfError EINVAL for what is no instruction. */
export function jitRaw(insns: readonly Insn[], options: RawOptions): Uint8Array {
  checkArgument('jitRaw()', 'insns', insns, insnList);
  checkArgument('jitRaw()', 'options', options, having('options with memory and stack', 'memory', 'stack'));
  return new RawModule(insns, options).encode();
}

class RawModule {
  readonly #module = new WasmModule();
  readonly #options: RawOptions;
  readonly #helpers = new Map<number, Func>();
  readonly #packets: PacketLoads;
  /** By program and first slot. */
  readonly #functions = new Map<readonly Insn[], Map<number, Func>>();
  readonly #queue: { insns: readonly Insn[]; entry: number; func: Func }[] = [];
  /** Set when the whole program has to end. */
  readonly #unwinding: number;
  readonly #tailCallCount: number;

  constructor(insns: readonly Insn[], options: RawOptions) {
    this.#options = options;
    const module = this.#module;
    module.importMemory(options.memory);
    for (const id of options.helpers ?? []) {
      this.#helpers.set(id, module.importFunc('helper', String(id), [I64, I64, I64, I64, I64], [I64]));
    }
    this.#unwinding = module.addGlobal(I32, 0);
    this.#tailCallCount = module.addGlobal(I32, 0);
    this.#packets = new PacketLoads(module);

    const run = module.declare(ENTRY_TYPES.run64.params, ENTRY_TYPES.run64.results);
    const code = new Code(2);
    code.i32(0).setGlobal(this.#unwinding).i32(0).setGlobal(this.#tailCallCount);
    code.get(0).get(1).i64(0).i64(0).i64(0).i32(options.stack);
    code.call(this.#function(insns, 0));
    module.define(run, code);
    module.export('run64', run);
    for (let next = this.#queue.pop(); next !== undefined; next = this.#queue.pop()) {
      const context = this.#context(next.insns);
      module.define(
        next.func,
        lowerFunction(context, next.entry, 'sub', () => {}),
      );
    }
  }

  encode(): Uint8Array {
    return this.#module.encode();
  }

  #function(insns: readonly Insn[], entry: number): Func {
    let entries = this.#functions.get(insns);
    if (entries === undefined) {
      entries = new Map();
      this.#functions.set(insns, entries);
    }
    let func = entries.get(entry);
    if (func === undefined) {
      func = this.#module.declare(ENTRY_TYPES.sub.params, ENTRY_TYPES.sub.results);
      entries.set(entry, func);
      this.#queue.push({ insns, entry, func });
    }
    return func;
  }

  #context(insns: readonly Insn[]): LowerContext {
    return {
      insns,
      isVerified: false,
      mapAddress() {
        throw new BpfError('EINVAL', 'programs in raw mode have no maps');
      },
      functionPointer() {
        throw new BpfError('EINVAL', 'programs in raw mode have no callbacks');
      },
      emitCall: (fn, pc) => this.#call(fn, insns, pc),
      emitPacketLoad: (fn, insn) => this.#packets.emit(fn, insn),
    };
  }

  #call(fn: FunctionEmitter, insns: readonly Insn[], pc: number): void {
    const insn = insns[pc]!;
    if (isa.BPF_SRC(insn.code) === isa.BPF_X && insn.code !== isa.BPF_TAIL_CALL) {
      this.#indirect(fn, insn);
      return;
    }
    if (insn.code === isa.BPF_TAIL_CALL) this.#tailCall(fn);
    else if (insn.src === isa.BPF_PSEUDO_CALL) this.#local(fn, insns, pc + 1 + insn.imm);
    else if (insn.src !== 0) throw new BpfError('EINVAL', `unknown kind of call ${insn.src} at ${pc}`);
    else if (insn.imm === isa.BPF_FUNC_tail_call && this.#options.tailCalls !== undefined) this.#tailCall(fn);
    else this.#helper(fn, insn.imm, pc);
  }

  #arguments(fn: FunctionEmitter): void {
    for (let reg = 1; reg <= 5; reg++) fn.get(reg);
  }

  #local(fn: FunctionEmitter, insns: readonly Insn[], entry: number): void {
    const { code } = fn;
    const { stack, maxFrames = isa.MAX_CALL_FRAMES } = this.#options;
    code
      .get(fn.frame)
      .i32(stack + (maxFrames - 1) * isa.MAX_BPF_STACK)
      .op(OP.i32GeU);
    code.if();
    code.op(OP.unreachable);
    code.end();
    this.#arguments(fn);
    code.get(fn.frame).i32(isa.MAX_BPF_STACK).op(OP.i32Add);
    code.call(this.#function(insns, entry));
    fn.set(0);
    if (this.#options.unwindHelper !== undefined) {
      code.global(this.#unwinding);
      code.if();
      code.i64(0);
      fn.emitReturn();
      code.end();
    }
  }

  #helper(fn: FunctionEmitter, id: number, pc: number): void {
    const func = this.#helpers.get(id);
    if (func === undefined) throw new BpfError('EINVAL', `unknown helper ${id} at ${pc}`);
    this.#arguments(fn);
    fn.code.call(func);
    fn.set(0);
    this.#unwindCheck(fn, id);
  }

  #unwindCheck(fn: FunctionEmitter, id: number): void {
    if (id !== this.#options.unwindHelper) return;
    const { code } = fn;
    code.get(fn.regs[0]!).op(OP.i64Eqz);
    code.if();
    code.i32(1).setGlobal(this.#unwinding).i64(0);
    fn.emitReturn();
    code.end();
  }

  /** callx: one comparison a helper. */
  #indirect(fn: FunctionEmitter, insn: Insn): void {
    const { code } = fn;
    const reg = insn.dst === 0 ? insn.imm : insn.dst;
    const target = fn.regs[reg];
    if (target === undefined) throw new BpfError('EINVAL', `callx of register ${reg}`);
    const id = fn.scratch(I64);
    code.get(target).set(id);
    const done = code.block();
    for (const [helper, func] of this.#helpers) {
      code.get(id).i64(helper).op(OP.i64Eq);
      code.if();
      this.#arguments(fn);
      code.call(func);
      fn.set(0);
      this.#unwindCheck(fn, helper);
      code.br(done);
      code.end();
    }
    code.op(OP.unreachable);
    code.end();
  }

  /** bpf_tail_call(ctx, programs, index): goes on in another program, in the same frame, or does nothing. */
  #tailCall(fn: FunctionEmitter): void {
    const { code } = fn;
    const count = this.#tailCallCount;
    code.global(count).i32(isa.MAX_TAIL_CALL_CNT).op(OP.i32LtU);
    code.if();
    for (const [index, program] of (this.#options.tailCalls ?? []).entries()) {
      if (program === undefined) continue;
      fn.get32(3).i32(index).op(OP.i32Eq);
      code.if();
      code.global(count).i32(1).op(OP.i32Add).setGlobal(count);
      this.#arguments(fn);
      code.get(fn.frame);
      code.returnCall(this.#function(program, 0));
      code.end();
    }
    code.end();
  }
}
