/** The syntax that the kernel's verifier log and bpftool print: `r1 += w2`, `*(u64 *)(r10 -8) = r1`, `if r1 s< 0x5 goto pc+3`. */
import { HELPER_NAMES } from '../helpers/names.ts';
import * as isa from '../isa.ts';
import {
  ALU_OPERATORS,
  FETCH_NAMES,
  invert,
  JUMP_OPERATORS,
  SIGNED_OPERATORS,
  SIGNED_SIZE_NAMES,
  SIZE_NAMES,
} from './names.ts';
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

const SIZES = invert(SIZE_NAMES);
const SIGNED_SIZES = invert(SIGNED_SIZE_NAMES);
const OPERATORS = invert(ALU_OPERATORS);
const SIGNED = invert(SIGNED_OPERATORS);
const JUMPS = invert(JUMP_OPERATORS);
const FETCHES = invert(FETCH_NAMES);

const MEMORY = String.raw`\(\s*(r\d+)\s*([+-]\s*\w+)?\s*\)`;
const STORE = new RegExp(String.raw`^\*\((u8|u16|u32|u64)\s*\*\)${MEMORY}\s*=\s*(.+)$`);
const LOAD = new RegExp(String.raw`^(r\d+)\s*=\s*\*\(([us]\d+)\s*\*\)${MEMORY}$`);
const LOCK = new RegExp(String.raw`^lock\s+\*\((u32|u64)\s*\*\)${MEMORY}\s*([+|&^]=)\s*([rw]\d+)$`);
const FETCH = new RegExp(
  String.raw`^([rw]\d+)\s*=\s*atomic(?:64)?_(fetch_add|fetch_and|fetch_or|fetch_xor|xchg|cmpxchg)\(\((u32|u64)\s*\*\)${MEMORY}\s*,\s*([rw]\d+)(?:\s*,\s*([rw]\d+))?\)$`,
);
const ACQUIRE = new RegExp(String.raw`^([rw]\d+)\s*=\s*load_acquire\(\((u\d+)\s*\*\)${MEMORY}\)$`);
const RELEASE = new RegExp(String.raw`^store_release\(\((u\d+)\s*\*\)${MEMORY}\s*,\s*([rw]\d+)\)$`);
const PACKET =
  /^r0\s*=\s*\*\((u8|u16|u32)\s*\*\)skb\[\s*(?:(r\d+)\s*((?:\+\s*)?[+-]\s*\w+)?|([+-]?\w+))\s*\]$/;
const CONDITION = /^if\s+([rw]\d+)\s*(s?[<>]=?|==|!=|&)\s*(\S+)\s+goto\s+(.+)$/;
const MAP = /^map\[(idx|id):(-?\d+)\](?:\[0\]\+(-?\d+))?$/;
const BTF_ID = /^btf_id\[(-?\d+)\](?:\+(-?\d+))?$/;
const CAST = /^(r\d+)\s*=\s*addr_space_cast\(\s*(r\d+)\s*,\s*(\w+)\s*,\s*(\w+)\s*\)$/;
const PERCPU = /^(r\d+)\s*=\s*&\(void __percpu \*\)\((r\d+)\)$/;
const END = /^([rw]\d+)\s*=\s*(le|be|bswap)(16|32|64)\s+([rw]\d+)$/;
const MOVSX = /^([rw]\d+)\s*=\s*\(s(8|16|32)\)\s*([rw]\d+)$/;
const ALU = /^([rw]\d+)\s*(s?(?:>>|[/%])=|<<=|[-+*|&^]?=)\s*(.+)$/;

interface Register {
  readonly number: number;
  /** Written `w`: the 32-bit half. */
  readonly half: boolean;
}

function tryRegister(text: string): Register | undefined {
  const match = /^([rw])(\d+)$/.exec(text.trim());
  if (match === null || Number(match[2]) > 10) return undefined;
  return { number: Number(match[2]), half: match[1] === 'w' };
}

function register(text: string, out: Output): Register {
  const reg = tryRegister(text);
  if (reg === undefined) throw new AsmError(out.line, `${text} is not a register`);
  return reg;
}

/** Parses one instruction; false where it does not look like this syntax. */
export function parseKernel(text: string, out: Output): boolean {
  return parseMemory(text, out) || parseAtomic(text, out) || parseFlow(text, out) || parseAlu(text, out);
}

function parseMemory(text: string, out: Output): boolean {
  const store = STORE.exec(text);
  if (store !== null) {
    const size = SIZES.get(store[1]!)!;
    const dst = register(store[2]!, out).number;
    const off = offset(store[3] ?? '', out);
    const src = tryRegister(store[4]!);
    out.insns.push(
      src === undefined
        ? insn(isa.BPF_ST | isa.BPF_MEM | size, { dst, off, imm: immediate(store[4]!, out) })
        : insn(isa.BPF_STX | isa.BPF_MEM | size, { dst, src: src.number, off }),
    );
    return true;
  }
  const load = LOAD.exec(text);
  if (load !== null) {
    const plain = SIZES.get(load[2]!);
    const size = plain ?? SIGNED_SIZES.get(load[2]!);
    if (size === undefined) throw new AsmError(out.line, `${load[2]} is not a size`);
    const mode = plain === undefined ? isa.BPF_MEMSX : isa.BPF_MEM;
    out.insns.push(
      insn(isa.BPF_LDX | mode | size, {
        dst: register(load[1]!, out).number,
        src: register(load[3]!, out).number,
        off: offset(load[4] ?? '', out),
      }),
    );
    return true;
  }
  const packet = PACKET.exec(text);
  if (packet === null) return false;
  const size = SIZES.get(packet[1]!)!;
  if (packet[2] === undefined) {
    out.insns.push(insn(isa.BPF_LD | isa.BPF_ABS | size, { imm: immediate(packet[4]!, out) }));
  } else {
    const imm =
      packet[3] === undefined ? 0 : immediate(packet[3].replace(/\s+/g, '').replace('+-', '-'), out);
    out.insns.push(insn(isa.BPF_LD | isa.BPF_IND | size, { src: register(packet[2], out).number, imm }));
  }
  return true;
}

function parseAtomic(text: string, out: Output): boolean {
  const lock = LOCK.exec(text);
  if (lock !== null) {
    out.insns.push(
      insn(isa.BPF_STX | isa.BPF_ATOMIC | SIZES.get(lock[1]!)!, {
        dst: register(lock[2]!, out).number,
        off: offset(lock[3] ?? '', out),
        src: register(lock[5]!, out).number,
        imm: OPERATORS.get(lock[4]!)!,
      }),
    );
    return true;
  }
  const fetch = FETCH.exec(text);
  if (fetch !== null) {
    const [, result, name, size, base, off, first, second] = fetch;
    const isCompare = name === 'cmpxchg';
    const value = register(isCompare ? (second ?? '') : first!, out).number;
    const returned = register(result!, out).number;
    if (isCompare ? returned !== 0 || register(first!, out).number !== 0 : returned !== value) {
      throw new AsmError(out.line, `the old value arrives in ${isCompare ? 'r0' : first}`);
    }
    const imm = isCompare
      ? isa.BPF_CMPXCHG
      : name === 'xchg'
        ? isa.BPF_XCHG
        : FETCHES.get(name!.slice('fetch_'.length))! | isa.BPF_FETCH;
    out.insns.push(
      insn(isa.BPF_STX | isa.BPF_ATOMIC | SIZES.get(size!)!, {
        dst: register(base!, out).number,
        src: value,
        off: offset(off ?? '', out),
        imm,
      }),
    );
    return true;
  }
  const acquire = ACQUIRE.exec(text);
  if (acquire !== null) {
    out.insns.push(
      insn(isa.BPF_STX | isa.BPF_ATOMIC | SIZES.get(acquire[2]!)!, {
        dst: register(acquire[1]!, out).number,
        src: register(acquire[3]!, out).number,
        off: offset(acquire[4] ?? '', out),
        imm: isa.BPF_LOAD_ACQ,
      }),
    );
    return true;
  }
  const release = RELEASE.exec(text);
  if (release === null) return false;
  out.insns.push(
    insn(isa.BPF_STX | isa.BPF_ATOMIC | SIZES.get(release[1]!)!, {
      dst: register(release[2]!, out).number,
      src: register(release[4]!, out).number,
      off: offset(release[3] ?? '', out),
      imm: isa.BPF_STORE_REL,
    }),
  );
  return true;
}

function parseFlow(text: string, out: Output): boolean {
  if (text === 'exit') {
    out.insns.push(insn(isa.BPF_JMP | isa.BPF_EXIT));
    return true;
  }
  const jump = /^(goto|gotol|may_goto)\s+(.+)$/.exec(text);
  if (jump !== null) {
    if (jump[1] === 'gotol') target(out, insn(isa.BPF_JMP32 | isa.BPF_JA), jump[2]!, 'imm');
    else {
      const code = isa.BPF_JMP | (jump[1] === 'goto' ? isa.BPF_JA : isa.BPF_JCOND);
      target(out, insn(code), jump[2]!, 'off');
    }
    return true;
  }
  const condition = CONDITION.exec(text);
  if (condition !== null) {
    const dst = register(condition[1]!, out);
    const src = tryRegister(condition[3]!);
    const code = (dst.half ? isa.BPF_JMP32 : isa.BPF_JMP) | JUMPS.get(condition[2]!)!;
    const branch =
      src === undefined
        ? insn(code | isa.BPF_K, { dst: dst.number, imm: immediate(condition[3]!, out) })
        : insn(code | isa.BPF_X, { dst: dst.number, src: src.number });
    target(out, branch, condition[4]!, 'off');
    return true;
  }
  const call = /^(call|callx)\s+(\S+)$/.exec(text);
  if (call === null || call[2]!.startsWith('%')) return false;
  parseCall(call[2]!, out);
  return true;
}

function parseCall(what: string, out: Output): void {
  const reg = tryRegister(what);
  const numbered = /^(?:(kernel-function)|[\w-]+)#(-?\d+(?:@-?\d+)?)$/.exec(what);
  const helper = /^bpf_(\w+)$/.exec(what);
  const known = helper === null ? -1 : HELPER_NAMES.indexOf(helper[1]!);
  const code = isa.BPF_JMP | isa.BPF_CALL;
  if (reg !== undefined) out.insns.push(insn(code | isa.BPF_X, { dst: reg.number }));
  else if (numbered !== null) {
    const isKfunc = numbered[1] !== undefined;
    out.insns.push(
      isKfunc ? kfuncCall(numbered[2]!, out) : insn(code, { imm: immediate(numbered[2]!, out) }),
    );
  } else if (known > 0) out.insns.push(insn(code, { imm: known }));
  else if (parseInteger(what) !== undefined && !/^[+-]/.test(what)) {
    out.insns.push(insn(code, { imm: immediate(what, out) }));
  } else target(out, insn(code, { src: isa.BPF_PSEUDO_CALL }), what, 'imm');
}

function parseAlu(text: string, out: Output): boolean {
  const end = END.exec(text);
  if (end !== null) {
    const dst = register(end[1]!, out).number;
    if (register(end[4]!, out).number !== dst)
      throw new AsmError(out.line, 'both registers have to be the same');
    const code =
      end[2] === 'le'
        ? isa.BPF_ALU | isa.BPF_TO_LE
        : end[2] === 'be'
          ? isa.BPF_ALU | isa.BPF_TO_BE
          : isa.BPF_ALU64;
    out.insns.push(insn(code | isa.BPF_END, { dst, imm: Number(end[3]) }));
    return true;
  }
  const movsx = MOVSX.exec(text);
  if (movsx !== null) {
    const dst = register(movsx[1]!, out);
    const cls = dst.half ? isa.BPF_ALU : isa.BPF_ALU64;
    out.insns.push(
      insn(cls | isa.BPF_MOV | isa.BPF_X, {
        dst: dst.number,
        src: register(movsx[3]!, out).number,
        off: Number(movsx[2]),
      }),
    );
    return true;
  }
  const cast = CAST.exec(text) ?? PERCPU.exec(text);
  if (cast !== null) {
    const [, to, from, high, low] = cast;
    const fields =
      high === undefined
        ? { off: isa.BPF_ADDR_PERCPU }
        : { off: isa.BPF_ADDR_SPACE_CAST, imm: addressSpaces(high, low!, out) };
    out.insns.push(
      insn(isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X, {
        dst: register(to!, out).number,
        src: register(from!, out).number,
        ...fields,
      }),
    );
    return true;
  }
  const alu = ALU.exec(text);
  if (alu === null) return false;
  const dst = register(alu[1]!, out);
  const cls = dst.half ? isa.BPF_ALU : isa.BPF_ALU64;
  const operand = alu[3]!.trim();
  if (alu[2] === '=') {
    if (operand === `-${alu[1]}`) {
      out.insns.push(insn(cls | isa.BPF_NEG, { dst: dst.number }));
      return true;
    }
    if (parseWide(dst.number, operand, out)) return true;
  }
  const signed = SIGNED.get(alu[2]!);
  const op = signed ?? OPERATORS.get(alu[2]!);
  if (op === undefined) throw new AsmError(out.line, `${alu[2]} is not an operator`);
  const off = signed === undefined ? 0 : 1;
  const src = tryRegister(operand);
  if (src !== undefined && src.half !== dst.half) {
    throw new AsmError(out.line, `${alu[1]} and ${operand} are not of one size`);
  }
  out.insns.push(
    src === undefined
      ? insn(cls | op | isa.BPF_K, { dst: dst.number, off, imm: immediate(operand, out) })
      : insn(cls | op | isa.BPF_X, { dst: dst.number, src: src.number, off }),
  );
  return true;
}

/** `r1 = 0x1234 ll`, `r1 = map[idx:0]`, `r1 = subprog[+5]`. */
function parseWide(dst: number, operand: string, out: Output): boolean {
  const map = MAP.exec(operand);
  if (map !== null) {
    const [isMap, isValue] =
      map[1] === 'idx'
        ? [isa.BPF_PSEUDO_MAP_IDX, isa.BPF_PSEUDO_MAP_IDX_VALUE]
        : [isa.BPF_PSEUDO_MAP_FD, isa.BPF_PSEUDO_MAP_VALUE];
    const src = map[3] === undefined ? isMap : isValue;
    wide(out, isa.BPF_LD_IMM64, dst, src, BigInt(map[2]!), BigInt(map[3] ?? 0));
    return true;
  }
  const btfId = BTF_ID.exec(operand);
  if (btfId !== null) {
    wide(out, isa.BPF_LD_IMM64, dst, isa.BPF_PSEUDO_BTF_ID, BigInt(btfId[1]!), BigInt(btfId[2] ?? 0));
    return true;
  }
  const subprog = /^subprog\[([+-]\d+)\]$/.exec(operand);
  if (subprog !== null) {
    wide(out, isa.BPF_LD_IMM64, dst, isa.BPF_PSEUDO_FUNC, BigInt(subprog[1]!), 0n);
    return true;
  }
  const long = (out.isWide === true ? /^(\S+?)(?:\s+ll)?$/ : /^(\S+)\s+ll$/).exec(operand);
  if (long === null) return false;
  const bits = parseInteger(long[1]!);
  if (bits === undefined) throw new AsmError(out.line, `${long[1]} is not a number`);
  wide(out, isa.BPF_LD_IMM64, dst, 0, bits, bits >> 32n);
  return true;
}
