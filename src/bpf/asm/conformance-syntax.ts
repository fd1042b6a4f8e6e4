/** The syntax of the bpf_conformance suite (that of ubpf): `mov32 %r1, 2`, `ldxdw %r0, [%r10-8]`, `lock fetch add [%r10-8], %r1`. */
import * as isa from '../isa.ts';
import { ALU_MNEMONICS, ATOMIC_MNEMONICS, JUMP_MNEMONICS, PSEUDO_NAMES, SIZE_SUFFIXES } from './names.ts';
import {
  AsmError,
  addressSpaces,
  immediate,
  insn,
  kfuncCall,
  type Output,
  offset,
  parseInteger,
  target,
  wide,
} from './parse.ts';

/** Parses one instruction; false where its mnemonic is not one of this syntax. */
export function parseConformance(text: string, out: Output): boolean {
  const lock = /^lock\s+((?:fetch\s+)?[a-z]+?)(32|64)?\s+(.*)$/.exec(text);
  if (lock !== null) {
    const op = ATOMIC_MNEMONICS[lock[1]!.replace(/\s+/, ' ')];
    if (op === undefined) return false;
    const [memory, source] = operands(lock[3]!, 2, out);
    const { reg: dst, off } = address(memory!, out);
    const size = lock[2] === '32' ? isa.BPF_W : isa.BPF_DW;
    out.insns.push(
      insn(isa.BPF_STX | isa.BPF_ATOMIC | size, { dst, src: register(source!, out), off, imm: op }),
    );
    return true;
  }
  const match = /^([a-z][a-z0-9_]*)\b\s*(.*)$/.exec(text);
  if (match === null) return false;
  const [, mnemonic, rest] = match as unknown as [string, string, string];
  return (
    parseAlu(mnemonic, rest, out) ||
    parseJump(mnemonic, rest, out) ||
    parseMemory(mnemonic, rest, out) ||
    parseOther(mnemonic, rest, out)
  );
}

function operands(text: string, count: number, out: Output): string[] {
  const parts = text.trim() === '' ? [] : text.split(',').map((part) => part.trim());
  if (parts.length !== count) throw new AsmError(out.line, `${count} operands expected, not ${parts.length}`);
  return parts;
}

function tryRegister(text: string): number | undefined {
  const match = /^%?r(\d+)$/.exec(text);
  return match !== null && Number(match[1]) <= 10 ? Number(match[1]) : undefined;
}

function register(text: string, out: Output): number {
  const reg = tryRegister(text);
  if (reg === undefined) throw new AsmError(out.line, `${text} is not a register`);
  return reg;
}

function address(text: string, out: Output): { reg: number; off: number } {
  const match = /^\[\s*(%?r\d+)\s*([+-].*?)?\s*\]$/.exec(text);
  if (match === null) throw new AsmError(out.line, `${text} is not an address`);
  return { reg: register(match[1]!, out), off: offset(match[2] ?? '', out) };
}

function parseAlu(mnemonic: string, rest: string, out: Output): boolean {
  const movsx = /^movsx(8|16|32)(32|64)$/.exec(mnemonic);
  if (movsx !== null) {
    const [dst, src] = operands(rest, 2, out);
    const cls = movsx[2] === '64' ? isa.BPF_ALU64 : isa.BPF_ALU;
    out.insns.push(
      insn(cls | isa.BPF_MOV | isa.BPF_X, {
        dst: register(dst!, out),
        src: register(src!, out),
        off: Number(movsx[1]),
      }),
    );
    return true;
  }
  if (mnemonic === 'addr_space_cast' || mnemonic === 'percpu') {
    const isCast = mnemonic === 'addr_space_cast';
    const [dst, src, to, from] = operands(rest, isCast ? 4 : 2, out);
    const [off, imm] = isCast
      ? [isa.BPF_ADDR_SPACE_CAST, addressSpaces(to!, from!, out)]
      : [isa.BPF_ADDR_PERCPU, 0];
    const code = isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X;
    out.insns.push(insn(code, { dst: register(dst!, out), src: register(src!, out), off, imm }));
    return true;
  }
  const end = /^(le|be|b?swap)(16|32|64)$/.exec(mnemonic);
  if (end !== null) {
    const [dst] = operands(rest, 1, out);
    const code =
      end[1] === 'le'
        ? isa.BPF_ALU | isa.BPF_TO_LE
        : end[1] === 'be'
          ? isa.BPF_ALU | isa.BPF_TO_BE
          : isa.BPF_ALU64;
    out.insns.push(insn(code | isa.BPF_END, { dst: register(dst!, out), imm: Number(end[2]) }));
    return true;
  }
  const match = /^([a-z]+)(32|64)?$/.exec(mnemonic);
  const op = match === null ? undefined : ALU_MNEMONICS[match[1]!];
  if (match === null || op === undefined) return false;
  const code = (match[2] === '32' ? isa.BPF_ALU : isa.BPF_ALU64) | op;
  const off = match[1] === 'sdiv' || match[1] === 'smod' ? 1 : 0;
  if (op === isa.BPF_NEG) {
    const [dst] = operands(rest, 1, out);
    out.insns.push(insn(code, { dst: register(dst!, out) }));
    return true;
  }
  const [dst, operand] = operands(rest, 2, out);
  const src = tryRegister(operand!);
  out.insns.push(
    src === undefined
      ? insn(code | isa.BPF_K, { dst: register(dst!, out), off, imm: immediate(operand!, out) })
      : insn(code | isa.BPF_X, { dst: register(dst!, out), src, off }),
  );
  return true;
}

function parseJump(mnemonic: string, rest: string, out: Output): boolean {
  if (mnemonic === 'ja') target(out, insn(isa.BPF_JMP | isa.BPF_JA), operands(rest, 1, out)[0]!, 'off');
  else if (mnemonic === 'ja32') {
    target(out, insn(isa.BPF_JMP32 | isa.BPF_JA), operands(rest, 1, out)[0]!, 'imm');
  } else if (mnemonic === 'may_goto' || mnemonic === 'maygoto') {
    target(out, insn(isa.BPF_JMP | isa.BPF_JCOND), operands(rest, 1, out)[0]!, 'off');
  } else {
    const match = /^([a-z]+)(32|64)?$/.exec(mnemonic);
    const op = match === null ? undefined : JUMP_MNEMONICS[match[1]!];
    if (match === null || op === undefined) return false;
    const code = (match[2] === '32' ? isa.BPF_JMP32 : isa.BPF_JMP) | op;
    const [dst, operand, label] = operands(rest, 3, out);
    const src = tryRegister(operand!);
    const jump =
      src === undefined
        ? insn(code | isa.BPF_K, { dst: register(dst!, out), imm: immediate(operand!, out) })
        : insn(code | isa.BPF_X, { dst: register(dst!, out), src });
    target(out, jump, label!, 'off');
  }
  return true;
}

function parseMemory(mnemonic: string, rest: string, out: Output): boolean {
  const match = /^(ldxs|ldx|stx|st|ldabs|ldind|ldacq|strel)(b|h|w|dw)$/.exec(mnemonic);
  if (match === null) return false;
  const size = SIZE_SUFFIXES[match[2]!]!;
  switch (match[1]) {
    case 'ldx':
    case 'ldxs': {
      const [dst, memory] = operands(rest, 2, out);
      const { reg, off } = address(memory!, out);
      const mode = match[1] === 'ldx' ? isa.BPF_MEM : isa.BPF_MEMSX;
      out.insns.push(insn(isa.BPF_LDX | mode | size, { dst: register(dst!, out), src: reg, off }));
      return true;
    }
    case 'st':
    case 'stx': {
      const [memory, operand] = operands(rest, 2, out);
      const { reg, off } = address(memory!, out);
      out.insns.push(
        match[1] === 'stx'
          ? insn(isa.BPF_STX | isa.BPF_MEM | size, { dst: reg, src: register(operand!, out), off })
          : insn(isa.BPF_ST | isa.BPF_MEM | size, { dst: reg, off, imm: immediate(operand!, out) }),
      );
      return true;
    }
    case 'ldacq':
    case 'strel': {
      const isLoad = match[1] === 'ldacq';
      const parts = operands(rest, 2, out);
      const { reg, off } = address(parts[isLoad ? 1 : 0]!, out);
      const data = register(parts[isLoad ? 0 : 1]!, out);
      const imm = isLoad ? isa.BPF_LOAD_ACQ : isa.BPF_STORE_REL;
      const [dst, src] = isLoad ? [data, reg] : [reg, data];
      out.insns.push(insn(isa.BPF_STX | isa.BPF_ATOMIC | size, { dst, src, off, imm }));
      return true;
    }
    case 'ldabs':
      out.insns.push(
        insn(isa.BPF_LD | isa.BPF_ABS | size, { imm: immediate(operands(rest, 1, out)[0]!, out) }),
      );
      return true;
    default: {
      const [src, imm] = operands(rest, 2, out);
      out.insns.push(
        insn(isa.BPF_LD | isa.BPF_IND | size, { src: register(src!, out), imm: immediate(imm!, out) }),
      );
      return true;
    }
  }
}

function parseOther(mnemonic: string, rest: string, out: Output): boolean {
  if (mnemonic === 'exit') {
    operands(rest, 0, out);
    out.insns.push(insn(isa.BPF_JMP | isa.BPF_EXIT));
    return true;
  }
  if (mnemonic === 'lddw') {
    const [dst, value] = operands(rest, 2, out);
    const named = /^([a-z_]+)\s+(-?\d+)(?:\s*\+\s*(-?\d+))?$/.exec(value!);
    if (named !== null) {
      const [, name, low, high] = named;
      const found = Object.entries(PSEUDO_NAMES).find(
        ([, pseudo]) => pseudo.name === name && pseudo.offset === (high !== undefined),
      );
      if (found === undefined) throw new AsmError(out.line, `${value} is nothing that lddw loads`);
      wide(out, isa.BPF_LD_IMM64, register(dst!, out), Number(found[0]), BigInt(low!), BigInt(high ?? 0));
      return true;
    }
    const bits = parseInteger(value!);
    if (bits === undefined || (BigInt.asUintN(64, bits) !== bits && BigInt.asIntN(64, bits) !== bits)) {
      throw new AsmError(out.line, `${value} is not a 64-bit number`);
    }
    wide(out, isa.BPF_LD_IMM64, register(dst!, out), 0, bits, bits >> 32n);
    return true;
  }
  if (mnemonic === 'call' || mnemonic === 'callx') {
    const mode = /^(local|helper|runtime)\s+(.*)$/.exec(rest);
    if (mode !== null && mode[1] !== 'local') {
      const isKfunc = mode[1] === 'runtime';
      out.insns.push(
        isKfunc
          ? kfuncCall(mode[2]!, out)
          : insn(isa.BPF_JMP | isa.BPF_CALL, { imm: immediate(mode[2]!, out) }),
      );
      return true;
    }
    if (mode !== null) {
      target(out, insn(isa.BPF_JMP | isa.BPF_CALL, { src: isa.BPF_PSEUDO_CALL }), mode[2]!, 'imm');
      return true;
    }
    const [what] = operands(rest, 1, out);
    const reg = tryRegister(what!);
    out.insns.push(
      reg === undefined
        ? insn(isa.BPF_JMP | isa.BPF_CALL, { imm: immediate(what!, out) })
        : insn(isa.BPF_JMP | isa.BPF_CALL | isa.BPF_X, { dst: reg }),
    );
    return true;
  }
  return false;
}
