/** Atomic instructions, as Wasm atomic accesses. */

import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { FunctionEmitter } from './emitter.ts';
import { LOADS, STORES } from './memory.ts';
import { ATOMIC, I32, I64, OP } from './wasm.ts';

/** [8 bytes, 4 bytes zero-extended] and what the operation is without atomicity. */
export const READ_MODIFY_WRITE: Record<number, { wide: number; narrow: number; plain: number }> = {
  [isa.BPF_ADD]: { wide: ATOMIC.i64Add, narrow: ATOMIC.i64Add32, plain: OP.i64Add },
  [isa.BPF_OR]: { wide: ATOMIC.i64Or, narrow: ATOMIC.i64Or32, plain: OP.i64Or },
  [isa.BPF_AND]: { wide: ATOMIC.i64And, narrow: ATOMIC.i64And32, plain: OP.i64And },
  [isa.BPF_XOR]: { wide: ATOMIC.i64Xor, narrow: ATOMIC.i64Xor32, plain: OP.i64Xor },
};

/**
 * Emits one BPF_STX | BPF_ATOMIC; false where its operation is unknown. Wasm's atomics trap on addresses that are not
 * multiples of the size: `unaligned` adds a plain path for those, for programs that no verifier has seen.
 */
export function emitAtomic(fn: FunctionEmitter, insn: Insn, unaligned: boolean): boolean {
  const { code } = fn;
  const { dst, src, off, imm } = insn;
  const size = isa.BPF_SIZE(insn.code);
  if (imm === isa.BPF_LOAD_ACQ || imm === isa.BPF_STORE_REL) {
    // A fence beside the plain access is as strong, for every size and alignment.
    if (imm === isa.BPF_LOAD_ACQ) {
      code.mem(LOADS[size]!, fn.address(src, off));
      fn.set(dst).op(0xfe, ATOMIC.fence, 0);
    } else {
      code.op(0xfe, ATOMIC.fence, 0);
      const offset = fn.address(dst, off);
      fn.get(src).mem(STORES[size]!, offset);
    }
    return true;
  }
  if (size !== isa.BPF_W && size !== isa.BPF_DW) return false;
  const bytes = size === isa.BPF_W ? 4 : 8;
  const rmw = READ_MODIFY_WRITE[imm & ~isa.BPF_FETCH];
  if (rmw === undefined && imm !== isa.BPF_XCHG && imm !== isa.BPF_CMPXCHG) return false;

  const atomic = (offset: number): void => {
    if (imm === isa.BPF_CMPXCHG) {
      fn.get(0);
      if (bytes === 4) code.i64(0xffffffff).op(OP.i64And);
      fn.get(src).atomic(bytes === 4 ? ATOMIC.i64Cmpxchg32 : ATOMIC.i64Cmpxchg, bytes, offset);
    } else if (imm === isa.BPF_XCHG) {
      fn.get(src).atomic(bytes === 4 ? ATOMIC.i64Xchg32 : ATOMIC.i64Xchg, bytes, offset);
    } else fn.get(src).atomic(bytes === 4 ? rmw!.narrow : rmw!.wide, bytes, offset);
  };

  if (!unaligned) atomic(fn.address(dst, off));
  else {
    const address = fn.scratch(I32);
    const offset = fn.address(dst, off);
    code.i32(offset).op(OP.i32Add).set(address);
    code
      .get(address)
      .i32(bytes - 1)
      .op(OP.i32And, OP.i32Eqz);
    code.if(I64);
    code.get(address);
    atomic(0);
    code.else();
    const old = fn.scratch(I64);
    code.get(address).mem(LOADS[size]!, 0).set(old);
    if (imm === isa.BPF_CMPXCHG) {
      code.get(old);
      fn.get(0);
      if (bytes === 4) code.i64(0xffffffff).op(OP.i64And);
      code.op(OP.i64Eq);
      code.if();
      code.get(address);
      fn.get(src).mem(STORES[size]!, 0);
      code.end();
    } else {
      code.get(address);
      if (imm !== isa.BPF_XCHG) code.get(old);
      fn.get(src);
      if (imm !== isa.BPF_XCHG) code.op(rmw!.plain);
      code.mem(STORES[size]!, 0);
    }
    code.get(old);
    code.end();
  }
  if (imm === isa.BPF_CMPXCHG) fn.set(0);
  else if ((imm & isa.BPF_FETCH) !== 0) fn.set(src);
  else code.op(OP.drop);
  return true;
}
