/** What both syntaxes have in common: operands, numbers, jump targets, errors. */
import { BpfError } from '../errors.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';

/** A place that jumps to a label, filled in once all labels are known. */
export interface Fixup {
  readonly at: number;
  readonly label: string;
  readonly field: 'off' | 'imm';
  readonly line: number;
}

/** What an instruction parser writes to. */
export interface Output {
  readonly insns: Insn[];
  readonly fixups: Fixup[];
  readonly line: number;
  /** The line has the code of an lddw before it, as the kernel prints: a number needs no ` ll`. */
  readonly isWide?: boolean;
}

export class AsmError extends BpfError {
  /** From 1. */
  readonly line: number;

  constructor(line: number, message: string) {
    super('EASM', `line ${line}: ${message}`);
    this.name = 'AsmError';
    this.line = line;
  }
}

export const insn = (code: number, fields: Partial<Omit<Insn, 'code'>> = {}): Insn => ({
  code,
  dst: fields.dst ?? 0,
  src: fields.src ?? 0,
  off: fields.off ?? 0,
  imm: fields.imm ?? 0,
});

/** An integer in decimal or hexadecimal, with a sign; undefined where the text is something else. */
export function parseInteger(text: string): bigint | undefined {
  const match = /^([+-]?)\s*(0x[0-9a-f]+|\d+)(?:u?l?l?)?$/i.exec(text.trim());
  if (match === null) return undefined;
  const value = BigInt(match[2]!);
  return match[1] === '-' ? -value : value;
}

/** `id`, or `id@n` for a function of a kernel module: `n` is its BTF's place in `fd_array`. */
export function kfuncCall(text: string, out: Output): Insn {
  const [id = '', btf = '0'] = text.split('@');
  const off = immediate(btf, out);
  if (off !== (off << 16) >> 16) throw new AsmError(out.line, `${btf} does not fit in 16 bits`);
  return insn(isa.BPF_JMP | isa.BPF_CALL, { src: isa.BPF_PSEUDO_KFUNC_CALL, off, imm: immediate(id, out) });
}

/** A 32-bit immediate: -2^31 to 2^32 - 1, as s32. */
export function immediate(text: string, out: Output): number {
  const value = parseInteger(text);
  if (value === undefined) throw new AsmError(out.line, `${text} is not a number`);
  if (BigInt.asIntN(32, value) !== value && BigInt.asUintN(32, value) !== value) {
    // Sign-extended 64-bit spelling of a negative immediate.
    const signed = BigInt.asIntN(64, value);
    if (BigInt.asUintN(64, value) !== value || BigInt.asIntN(32, signed) !== signed) {
      throw new AsmError(out.line, `${text} does not fit in 32 bits`);
    }
  }
  return Number(BigInt.asIntN(32, value));
}

export function offset(text: string, out: Output): number {
  const value = text.trim() === '' ? 0n : parseInteger(text.replace(/\s+/g, ''));
  if (value === undefined) throw new AsmError(out.line, `${text} is not an offset`);
  if (BigInt.asIntN(16, value) !== value)
    throw new AsmError(out.line, `offset ${text} does not fit in 16 bits`);
  return Number(value);
}

/** Emits an lddw. */
export function wide(out: Output, code: number, dst: number, src: number, low: bigint, high: bigint): void {
  out.insns.push(insn(code, { dst, src, imm: Number(BigInt.asIntN(32, low)) }));
  out.insns.push(insn(0, { imm: Number(BigInt.asIntN(32, high)) }));
}

/** Emits a jump or call: to a label, `pc+N` or `+N`. */
export function target(out: Output, jump: Insn, text: string, field: 'off' | 'imm'): void {
  const relative = /^(?:pc\s*)?([+-]\s*(?:0x[0-9a-f]+|\d+))$/i.exec(text.trim());
  if (relative !== null) {
    const distance = Number(parseInteger(relative[1]!.replace(/\s+/g, '')));
    const limit = field === 'off' ? 0x8000 : 0x80000000;
    if (distance < -limit || distance >= limit) throw new AsmError(out.line, `${text} is too far away`);
    jump[field] = distance;
  } else if (/^[A-Za-z_.$][\w.$]*$/.test(text.trim())) {
    out.fixups.push({ at: out.insns.length, label: text.trim(), field, line: out.line });
  } else throw new AsmError(out.line, `${text} is not a label`);
  out.insns.push(jump);
}

/** The immediate of an addr_space_cast: two numbers of 16 bits. */
export function addressSpaces(to: string, from: string, out: Output): number {
  const [high, low] = [to, from].map((text) => {
    const value = parseInteger(text);
    if (value === undefined || value < 0n || value > 0xffffn) {
      throw new AsmError(out.line, `${text} is not an address space`);
    }
    return Number(value);
  });
  return (high! << 16) | low!;
}
