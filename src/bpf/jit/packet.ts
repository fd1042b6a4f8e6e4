/** BPF_LD | BPF_ABS and BPF_IND: loads of packet bytes through the socket buffer in r6 (see ../sk-buff.ts). */

import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { SK_BUFF, SK_BUFF_PRIVATE, SKF_LL_OFF, SKF_NET_OFF } from '../sk-buff.ts';
import type { FunctionEmitter } from './emitter.ts';
import { Code, type Func, I32, I64, OP, type WasmModule } from './wasm.ts';

/** What no packet load can give. */
const NO_DATA = -1;

export class PacketLoads {
  readonly #module: WasmModule;
  readonly #functions = new Map<number, Func>();

  constructor(module: WasmModule) {
    this.#module = module;
  }

  /** Leaves the function with 0 where the packet has no such bytes, else sets r0. */
  emit(fn: FunctionEmitter, insn: Insn): void {
    const { code } = fn;
    const size = isa.sizeBytes(insn.code);
    fn.get32(isa.BPF_REG_6);
    if (isa.BPF_MODE(insn.code) === isa.BPF_IND) fn.get32(insn.src).i32(insn.imm).op(OP.i32Add);
    else code.i32(insn.imm);
    code.call(this.#load(size));
    fn.set(0);
    code.get(fn.regs[0]!).i64(NO_DATA).op(OP.i64Eq);
    code.if();
    code.i64(0);
    fn.emitReturn();
    code.end();
  }

  /** (skb: i32, offset: i32) → i64: the value, or NO_DATA. */
  #load(size: number): Func {
    const known = this.#functions.get(size);
    if (known !== undefined) return known;
    const func = this.#module.declare([I32, I32], [I64]);
    this.#functions.set(size, func);
    const code = new Code(2);
    const address = code.local(I32);
    const field = (offset: number): Code => code.get(0).mem(OP.i32Load, offset);
    const fail = code.block();
    code.get(1).i32(0).op(OP.i32GeS);
    code.if();
    code
      .get(1)
      .op(OP.i64ExtendI32U)
      .i64(size)
      .op(OP.i64Add)
      .get(0)
      .mem(OP.i64Load32U, SK_BUFF.len)
      .op(OP.i64GtU)
      .brIf(fail);
    field(SK_BUFF.data).get(1).op(OP.i32Add).set(address);
    code.else();
    code.get(1).i32(SKF_LL_OFF).op(OP.i32LtS).brIf(fail);
    code.get(1).i32(SKF_NET_OFF).op(OP.i32GeS);
    code.if(I32);
    field(SK_BUFF_PRIVATE.networkHeader).i32(-SKF_NET_OFF).op(OP.i32Add);
    code.else();
    field(SK_BUFF_PRIVATE.macHeader).i32(-SKF_LL_OFF).op(OP.i32Add);
    code.end();
    code.get(1).op(OP.i32Add).tee(address);
    field(SK_BUFF_PRIVATE.head).op(OP.i32LtU).brIf(fail);
    code.get(address).i32(size).op(OP.i32Add);
    field(SK_BUFF_PRIVATE.tail).op(OP.i32GtU).brIf(fail);
    code.end();
    // Big-endian: the first byte is the highest.
    for (let n = 0; n < size; n++) {
      code.get(address).mem(OP.i64Load8U, n);
      if (n < size - 1) code.i64(8 * (size - 1 - n)).op(OP.i64Shl);
      if (n > 0) code.op(OP.i64Or);
    }
    code.op(OP.return);
    code.end();
    code.i64(NO_DATA);
    this.#module.define(func, code);
    return func;
  }
}
