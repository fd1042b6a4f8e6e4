/** Arithmetic instructions, and what is pushed for a comparison. */
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { FunctionEmitter } from './emitter.ts';
import { type Code, I32, I64, OP, type ValType } from './wasm.ts';

const COMPARE64: Record<number, number> = {
  [isa.BPF_JEQ]: OP.i64Eq,
  [isa.BPF_JNE]: OP.i64Ne,
  [isa.BPF_JGT]: OP.i64GtU,
  [isa.BPF_JGE]: OP.i64GeU,
  [isa.BPF_JLT]: OP.i64LtU,
  [isa.BPF_JLE]: OP.i64LeU,
  [isa.BPF_JSGT]: OP.i64GtS,
  [isa.BPF_JSGE]: OP.i64GeS,
  [isa.BPF_JSLT]: OP.i64LtS,
  [isa.BPF_JSLE]: OP.i64LeS,
};
const COMPARE32: Record<number, number> = {
  [isa.BPF_JEQ]: OP.i32Eq,
  [isa.BPF_JNE]: OP.i32Ne,
  [isa.BPF_JGT]: OP.i32GtU,
  [isa.BPF_JGE]: OP.i32GeU,
  [isa.BPF_JLT]: OP.i32LtU,
  [isa.BPF_JLE]: OP.i32LeU,
  [isa.BPF_JSGT]: OP.i32GtS,
  [isa.BPF_JSGE]: OP.i32GeS,
  [isa.BPF_JSLT]: OP.i32LtS,
  [isa.BPF_JSLE]: OP.i32LeS,
};
/** Operations that Wasm has alike, for 64 and 32 bits. */
const SIMPLE: Record<number, readonly [number, number]> = {
  [isa.BPF_ADD]: [OP.i64Add, OP.i32Add],
  [isa.BPF_SUB]: [OP.i64Sub, OP.i32Sub],
  [isa.BPF_MUL]: [OP.i64Mul, OP.i32Mul],
  [isa.BPF_OR]: [OP.i64Or, OP.i32Or],
  [isa.BPF_AND]: [OP.i64And, OP.i32And],
  [isa.BPF_XOR]: [OP.i64Xor, OP.i32Xor],
  [isa.BPF_LSH]: [OP.i64Shl, OP.i32Shl],
  [isa.BPF_RSH]: [OP.i64ShrU, OP.i32ShrU],
  [isa.BPF_ARSH]: [OP.i64ShrS, OP.i32ShrS],
};

/** Emits an instruction of class BPF_ALU64; false where there is no such instruction. */
export function emitAlu64(fn: FunctionEmitter, insn: Insn): boolean {
  const { dst, src, imm, off } = insn;
  const op = isa.BPF_OP(insn.code);
  const { code } = fn;
  if (op === isa.BPF_MOV) {
    if (isa.BPF_SRC(insn.code) === isa.BPF_K) code.i64(imm);
    else {
      fn.get(src);
      if (off === 8) code.op(OP.i64Extend8S);
      else if (off === 16) code.op(OP.i64Extend16S);
      else if (off === 32) code.op(OP.i64Extend32S);
      // Without an arena, whose casts are arena.ts's.
      else if (off === isa.BPF_ADDR_SPACE_CAST) code.i64(0xffffffff).op(OP.i64And);
      else if (off !== 0) return false;
    }
  } else if (!(op === isa.BPF_END ? swap(fn, dst, imm) : compute(fn, insn, WIDE))) return false;
  fn.set(dst);
  return true;
}

/** Emits an instruction of class BPF_ALU; false where there is no such instruction. */
export function emitAlu32(fn: FunctionEmitter, insn: Insn): boolean {
  const { dst, src, imm, off } = insn;
  const op = isa.BPF_OP(insn.code);
  const isReg = isa.BPF_SRC(insn.code) === isa.BPF_X;
  const { code } = fn;
  if (op === isa.BPF_MOV && !isReg) code.i64(imm >>> 0);
  else if (op === isa.BPF_END) {
    if (!(isReg ? swap(fn, dst, imm) : truncate(fn, dst, imm))) return false;
  } else {
    if (op === isa.BPF_MOV) {
      fn.get32(src);
      if (off === 8) code.op(OP.i32Extend8S);
      else if (off === 16) code.op(OP.i32Extend16S);
      else if (off !== 0) return false;
    } else if (!compute(fn, insn, NARROW)) return false;
    code.op(OP.i64ExtendI32U);
  }
  fn.set(dst);
  return true;
}

/** Pushes the result of what both widths compute alike; false where there is no such operation. */
function compute(fn: FunctionEmitter, insn: Insn, width: Width): boolean {
  const { dst, src, imm } = insn;
  const op = isa.BPF_OP(insn.code);
  const simple = SIMPLE[op];
  if (simple !== undefined) {
    width.get(fn, dst);
    if (isa.BPF_SRC(insn.code) === isa.BPF_X) width.get(fn, src);
    else width.immediate(fn.code, imm);
    fn.code.op(width === WIDE ? simple[0] : simple[1]);
  } else if (op === isa.BPF_NEG) {
    width.immediate(fn.code, 0);
    width.get(fn, dst);
    fn.code.op(width.sub);
  } else if (op === isa.BPF_DIV || op === isa.BPF_MOD) divide(fn, insn, width, op === isa.BPF_MOD);
  else return false;
  return true;
}

/** Pushes whether a conditional jump is taken, as i32; false where there is no such jump. */
export function emitComparison(fn: FunctionEmitter, insn: Insn): boolean {
  const { code } = fn;
  const op = isa.BPF_OP(insn.code);
  const isReg = isa.BPF_SRC(insn.code) === isa.BPF_X;
  const is32 = isa.BPF_CLASS(insn.code) === isa.BPF_JMP32;
  const compare = (is32 ? COMPARE32 : COMPARE64)[op];
  if (op !== isa.BPF_JSET && compare === undefined) return false;
  if (is32) {
    fn.get32(insn.dst);
    if (isReg) fn.get32(insn.src);
    else code.i32(insn.imm);
    code.op(compare ?? OP.i32And);
    return true;
  }
  fn.get(insn.dst);
  if (!isReg && insn.imm === 0 && op === isa.BPF_JEQ) {
    code.op(OP.i64Eqz);
    return true;
  }
  if (isReg) fn.get(insn.src);
  else code.i64(insn.imm);
  if (compare === undefined) code.op(OP.i64And).i64(0).op(OP.i64Ne);
  else code.op(compare);
  return true;
}

/** What computing in 64 and in 32 bits is made of. */
interface Width {
  readonly type: ValType;
  readonly bits: number;
  get(fn: FunctionEmitter, reg: number): Code;
  constant(code: Code, value: bigint): Code;
  immediate(code: Code, imm: number): Code;
  readonly eqz: number;
  readonly eq: number;
  readonly sub: number;
  /** Of unsigned and of signed numbers. */
  readonly div: readonly [number, number];
  readonly rem: readonly [number, number];
}

const WIDE: Width = {
  type: I64,
  bits: 64,
  get: (fn, reg) => fn.get(reg),
  constant: (code, value) => code.i64(value),
  immediate: (code, imm) => code.i64(imm),
  eqz: OP.i64Eqz,
  eq: OP.i64Eq,
  sub: OP.i64Sub,
  div: [OP.i64DivU, OP.i64DivS],
  rem: [OP.i64RemU, OP.i64RemS],
};

const NARROW: Width = {
  type: I32,
  bits: 32,
  get: (fn, reg) => fn.get32(reg),
  constant: (code, value) => code.i32(Number(value)),
  immediate: (code, imm) => code.i32(imm),
  eqz: OP.i32Eqz,
  eq: OP.i32Eq,
  sub: OP.i32Sub,
  div: [OP.i32DivU, OP.i32DivS],
  rem: [OP.i32RemU, OP.i32RemS],
};

/** Division by zero gives 0, remainder by zero the dividend; the least number / -1 is itself, its remainder 0. */
function divide(fn: FunctionEmitter, insn: Insn, width: Width, isMod: boolean): void {
  const { dst, src, imm } = insn;
  const { code } = fn;
  const { type, eqz, eq, sub } = width;
  const isSigned = insn.off === 1;
  const operation = (isMod ? width.rem : width.div)[isSigned ? 1 : 0];
  const dividend = (): Code => width.get(fn, dst);
  const zero = (): Code => width.constant(code, 0n);
  const byZero = (): Code => (isMod ? dividend() : zero());
  const known = isa.BPF_SRC(insn.code) === isa.BPF_X ? fn.value(src) : undefined;
  if (isa.BPF_SRC(insn.code) === isa.BPF_K || known?.kind === 'const') {
    const divisor = known?.kind === 'const' ? BigInt.asIntN(width.bits, known.value) : BigInt(imm);
    if (divisor === 0n) byZero();
    else if (divisor === -1n && isSigned) {
      zero();
      if (!isMod) {
        dividend();
        code.op(sub);
      }
    } else {
      dividend();
      width.constant(code, divisor).op(operation);
    }
    return;
  }
  const quotient = (): void => {
    dividend();
    width.get(fn, src).op(operation);
  };
  width.get(fn, src).op(eqz);
  code.if(type);
  byZero();
  code.else();
  if (isSigned && !isMod) {
    width.get(fn, src);
    width.constant(code, -1n).op(eq);
    code.if(type);
    zero();
    dividend().op(sub);
    code.else();
    quotient();
    code.end();
  } else quotient();
  code.end();
}

/** Host order (little endian) to little endian: pushes the low bits, as an i64. */
function truncate(fn: FunctionEmitter, reg: number, bits: number): boolean {
  if (bits === 16) fn.get(reg).i64(0xffff).op(OP.i64And);
  else if (bits === 32) fn.get(reg).i64(0xffffffff).op(OP.i64And);
  else if (bits === 64) fn.get(reg);
  else return false;
  return true;
}

/** Pushes the low `bits` with their bytes reversed, as an i64. */
function swap(fn: FunctionEmitter, reg: number, bits: number): boolean {
  const { code } = fn;
  const local = fn.regs[reg]!;
  if (bits === 16) {
    code.get(local).op(OP.i32WrapI64).i32(8).op(OP.i32ShrU).i32(0xff).op(OP.i32And);
    code.get(local).op(OP.i32WrapI64).i32(0xff).op(OP.i32And).i32(8).op(OP.i32Shl);
    code.op(OP.i32Or, OP.i64ExtendI32U);
  } else if (bits === 32) {
    code.get(local).op(OP.i32WrapI64).i32(8).op(OP.i32Rotl).i32(0x00ff00ff).op(OP.i32And);
    code.get(local).op(OP.i32WrapI64).i32(24).op(OP.i32Rotl).i32(0xff00ff00).op(OP.i32And);
    code.op(OP.i32Or, OP.i64ExtendI32U);
  } else if (bits === 64) {
    for (const [shift, mask] of [
      [8, 0x00ff_00ff_00ff_00ffn],
      [16, 0x0000_ffff_0000_ffffn],
    ] as const) {
      code.get(local).i64(mask).op(OP.i64And).i64(shift).op(OP.i64Shl);
      code.get(local).i64(shift).op(OP.i64ShrU).i64(mask).op(OP.i64And);
      code.op(OP.i64Or).set(local);
    }
    code.get(local).i64(32).op(OP.i64Rotl);
  } else return false;
  return true;
}

/**
 * A left shift and a right shift by the same constant are an extension: the Wasm opcode of a sign extension, the mask of
 * a zero extension, or undefined.
 */
export function extension(first: Insn, second: Insn): number | bigint | undefined {
  if (first.code !== (isa.BPF_ALU64 | isa.BPF_LSH | isa.BPF_K)) return undefined;
  if (second.dst !== first.dst || second.imm !== first.imm || first.imm <= 0 || first.imm > 63)
    return undefined;
  if (second.code === (isa.BPF_ALU64 | isa.BPF_RSH | isa.BPF_K)) return (1n << BigInt(64 - first.imm)) - 1n;
  if (second.code !== (isa.BPF_ALU64 | isa.BPF_ARSH | isa.BPF_K)) return undefined;
  if (first.imm === 32) return OP.i64Extend32S;
  if (first.imm === 48) return OP.i64Extend16S;
  return first.imm === 56 ? OP.i64Extend8S : undefined;
}
