/**
 * Classic BPF: its check (bpf_check_classic) and its conversion to eBPF (bpf_convert_filter), as net/core/filter.c has them. The
 * result reads its socket buffer as `sk-buff.ts` lays it out.
 */

import { aFilter } from './argument-shapes.ts';
import { checkArgument } from './arguments.ts';
import { ProgramBuilder, R0, R1, R2, R3, R6, R7, R8, R10 } from './builder.ts';
import { findFarJump } from './classic-length.ts';
import { BpfError } from './errors.ts';
import type { Insn } from './isa.ts';
import * as isa from './isa.ts';
import { SK_BUFF, SK_BUFF_PRIVATE } from './sk-buff.ts';
import { BPF_MAXINSNS, BPF_MEMWORDS, type SockFilter } from './sock-filter.ts';

const BPF_RET = 0x06;
const BPF_MISC = 0x07;
const BPF_LEN = 0x80;
const BPF_MSH = 0xa0;
const BPF_A = 0x10;
const BPF_TAX = 0x00;
const BPF_TXA = 0x80;

/** Offsets of ancillary data, from SKF_AD_OFF (include/uapi/linux/filter.h). */
const SKF_AD_OFF = 0xfffff000;
export const SKF_AD = {
  PROTOCOL: 0,
  PKTTYPE: 4,
  IFINDEX: 8,
  NLATTR: 12,
  NLATTR_NEST: 16,
  MARK: 20,
  QUEUE: 24,
  HATYPE: 28,
  RXHASH: 32,
  CPU: 36,
  ALU_XOR_X: 40,
  VLAN_TAG: 44,
  VLAN_TAG_PRESENT: 48,
  PAY_OFFSET: 52,
  RANDOM: 56,
  VLAN_TPID: 60,
} as const;
const ANCILLARY: ReadonlySet<number> = new Set(Object.values(SKF_AD));

/** Instructions that a load of ancillary data becomes in the kernel (convert_bpf_extensions), by its `k`. */
const ANCILLARY_LENGTHS: ReadonlyMap<number, number> = new Map(
  (
    [
      [1, ['MARK', 'QUEUE', 'RXHASH', 'VLAN_TAG', 'ALU_XOR_X']],
      [2, ['PROTOCOL', 'PKTTYPE', 'VLAN_TPID']],
      [3, ['VLAN_TAG_PRESENT']],
      [4, ['IFINDEX', 'HATYPE', 'PAY_OFFSET', 'NLATTR', 'NLATTR_NEST', 'CPU', 'RANDOM']],
    ] as const
  ).flatMap(([length, names]) => names.map((name) => [SKF_AD_OFF + SKF_AD[name], length] as const)),
);

/**
 * Helpers that only converted filters call, with (skb, A, X); the kernel calls its functions by address. The numbers are outside of
 * enum bpf_func_id.
 */
export const SKB_HELPERS = {
  get_pay_offset: 0x10000,
  get_nlattr: 0x10001,
  get_nlattr_nest: 0x10002,
} as const;

/** Codes that exist (chk_code_allowed). */
const ALLOWED = ((): ReadonlySet<number> => {
  const codes = new Set<number>();
  const { BPF_ALU, BPF_LD, BPF_LDX, BPF_ST, BPF_STX, BPF_JMP, BPF_K, BPF_X, BPF_W, BPF_H, BPF_B } = isa;
  for (const op of [
    isa.BPF_ADD,
    isa.BPF_SUB,
    isa.BPF_MUL,
    isa.BPF_DIV,
    isa.BPF_MOD,
    isa.BPF_AND,
    isa.BPF_OR,
    isa.BPF_XOR,
    isa.BPF_LSH,
    isa.BPF_RSH,
  ]) {
    codes.add(BPF_ALU | op | BPF_K).add(BPF_ALU | op | BPF_X);
  }
  codes.add(BPF_ALU | isa.BPF_NEG);
  for (const size of [BPF_W, BPF_H, BPF_B]) {
    codes.add(BPF_LD | size | isa.BPF_ABS).add(BPF_LD | size | isa.BPF_IND);
  }
  codes
    .add(BPF_LD | BPF_W | BPF_LEN)
    .add(BPF_LD | isa.BPF_IMM)
    .add(BPF_LD | isa.BPF_MEM);
  codes
    .add(BPF_LDX | BPF_W | BPF_LEN)
    .add(BPF_LDX | isa.BPF_IMM)
    .add(BPF_LDX | isa.BPF_MEM);
  codes.add(BPF_LDX | BPF_B | BPF_MSH);
  codes.add(BPF_ST).add(BPF_STX);
  codes.add(BPF_MISC | BPF_TAX).add(BPF_MISC | BPF_TXA);
  codes.add(BPF_RET | BPF_K).add(BPF_RET | BPF_A);
  codes.add(BPF_JMP | isa.BPF_JA);
  for (const op of [isa.BPF_JEQ, isa.BPF_JGE, isa.BPF_JGT, isa.BPF_JSET]) {
    codes.add(BPF_JMP | op | BPF_K).add(BPF_JMP | op | BPF_X);
  }
  return codes;
})();

const isMemory = (code: number): 'load' | 'store' | undefined => {
  if (code === (isa.BPF_LD | isa.BPF_MEM) || code === (isa.BPF_LDX | isa.BPF_MEM)) return 'load';
  return code === isa.BPF_ST || code === isa.BPF_STX ? 'store' : undefined;
};
const isPacketLoad = (code: number, mode: number): boolean =>
  isa.BPF_CLASS(code) === isa.BPF_LD && isa.BPF_MODE(code) === mode;

/** bpf_check_classic: throws BpfError EINVAL, whose message names the instruction. */
export function checkClassic(filters: readonly SockFilter[]): void {
  checkArgument('checkClassic()', 'filters', filters, aFilter);
  const refuse = (pc: number, what: string): never => {
    throw new BpfError('EINVAL', `classic instruction ${pc}: ${what}`);
  };
  if (filters.length === 0 || filters.length > BPF_MAXINSNS) {
    throw new BpfError('EINVAL', `${filters.length} instructions: 1 to ${BPF_MAXINSNS} are allowed`);
  }
  for (const [pc, { code, jt, jf, k }] of filters.entries()) {
    if (!ALLOWED.has(code)) refuse(pc, `code 0x${code.toString(16)} does not exist`);
    const cls = isa.BPF_CLASS(code);
    const op = isa.BPF_OP(code);
    if (cls === isa.BPF_ALU && isa.BPF_SRC(code) === isa.BPF_K) {
      if ((op === isa.BPF_DIV || op === isa.BPF_MOD) && k === 0) refuse(pc, 'division by zero');
      if ((op === isa.BPF_LSH || op === isa.BPF_RSH) && k >= 32) refuse(pc, `shift by ${k}`);
    }
    if (isMemory(code) !== undefined && k >= BPF_MEMWORDS) refuse(pc, `no memory word ${k}`);
    if (cls === isa.BPF_JMP) {
      if (op === isa.BPF_JA ? k >= filters.length - pc - 1 : Math.max(jt, jf) + pc + 1 >= filters.length) {
        refuse(pc, 'jumps out of the program');
      }
    }
    if (isPacketLoad(code, isa.BPF_ABS) && k >= SKF_AD_OFF && !ANCILLARY.has(k - SKF_AD_OFF)) {
      refuse(pc, `no ancillary data ${k - SKF_AD_OFF}`);
    }
  }
  if (isa.BPF_CLASS(filters.at(-1)!.code) !== BPF_RET)
    refuse(filters.length - 1, 'the last one is no return');
  checkLoadsAndStores(filters, refuse);
}

/** check_load_and_stores: every memory word is stored before it is loaded, on all paths. */
function checkLoadsAndStores(
  filters: readonly SockFilter[],
  refuse: (pc: number, what: string) => never,
): void {
  const valid = new Uint16Array(filters.length).fill(0xffff);
  let words = 0;
  const join = (target: number): void => {
    valid[target]! &= words;
  };
  for (const [pc, { code, jt, jf, k }] of filters.entries()) {
    words &= valid[pc]!;
    const memory = isMemory(code);
    if (memory === 'store') words |= 1 << k;
    else if (memory === 'load' && (words & (1 << k)) === 0)
      refuse(pc, `memory word ${k} may not have been stored`);
    if (isa.BPF_CLASS(code) === isa.BPF_JMP) {
      if (isa.BPF_OP(code) === isa.BPF_JA) join(pc + 1 + k);
      else {
        join(pc + 1 + jt);
        join(pc + 1 + jf);
      }
      words = 0xffff;
    } else if (isa.BPF_CLASS(code) === BPF_RET) words = 0xffff;
  }
}

const A = R0;
const X = R7;
const CTX = R6;
const TMP = R8;
const word = (k: number): number => -4 * (BPF_MEMWORDS - k);

const ALU_OPS: Record<number, 'add32' | 'sub32' | 'mul32' | 'and32' | 'or32' | 'xor32' | 'lsh32' | 'rsh32'> =
  {
    [isa.BPF_ADD]: 'add32',
    [isa.BPF_SUB]: 'sub32',
    [isa.BPF_MUL]: 'mul32',
    [isa.BPF_AND]: 'and32',
    [isa.BPF_OR]: 'or32',
    [isa.BPF_XOR]: 'xor32',
    [isa.BPF_LSH]: 'lsh32',
    [isa.BPF_RSH]: 'rsh32',
  };
const CONDITIONS = {
  [isa.BPF_JEQ]: ['==', '!='],
  [isa.BPF_JGT]: ['>', '<='],
  [isa.BPF_JGE]: ['>=', '<'],
  [isa.BPF_JSET]: ['&', undefined],
} as const;

/** Checks and converts a filter. r1 is the socket buffer; the result is the filter's. Throws as checkClassic does, and where a jump is too far. */
export function convertFilter(filters: readonly SockFilter[]): Insn[] {
  checkArgument('convertFilter()', 'filters', filters, aFilter);
  checkClassic(filters);
  const far = findFarJump(filters, ANCILLARY_LENGTHS);
  if (far !== undefined) {
    throw new BpfError(
      'EINVAL',
      `classic instruction ${far}: jumps over too much: 32767 converted instructions are reached`,
    );
  }
  const b = new ProgramBuilder();
  b.mov32(A, 0).mov32(X, 0).mov(CTX, R1);
  const at = (pc: number): string => `c${pc}`;
  for (const [pc, filter] of filters.entries()) {
    const { code, k } = filter;
    const signedK = k | 0;
    b.label(at(pc));
    switch (isa.BPF_CLASS(code)) {
      case isa.BPF_LD:
        convertLoad(b, filter);
        break;
      case isa.BPF_LDX:
        if (code === (isa.BPF_LDX | isa.BPF_IMM)) b.mov32(X, signedK);
        else if (code === (isa.BPF_LDX | isa.BPF_MEM)) b.ldx(4, X, R10, word(k));
        else if (code === (isa.BPF_LDX | isa.BPF_W | BPF_LEN)) b.ldx(4, X, CTX, SK_BUFF.len);
        else {
          // BPF_MSH: X = 4 * (P[k:1] & 0xf), the length of an IPv4 header.
          b.mov(TMP, A).raw(isa.BPF_LD | isa.BPF_ABS | isa.BPF_B, 0, 0, 0, signedK);
          b.and32(A, 0xf).lsh32(A, 2).mov(X, A).mov(A, TMP);
        }
        break;
      case isa.BPF_ST:
        b.stx(4, R10, word(k), A);
        break;
      case isa.BPF_STX:
        b.stx(4, R10, word(k), X);
        break;
      case isa.BPF_ALU:
        convertAlu(b, code, signedK);
        break;
      case isa.BPF_JMP:
        convertJump(b, filter, pc, at);
        break;
      case BPF_RET:
        if ((code & 0x18) === BPF_A) b.exit();
        else b.mov32(A, signedK).exit();
        break;
      default:
        if ((code & 0xf8) === BPF_TAX) b.mov32(X, A);
        else b.mov32(A, X);
    }
  }
  return b.build();
}

function convertLoad(b: ProgramBuilder, { code, k }: SockFilter): void {
  const signedK = k | 0;
  if (code === (isa.BPF_LD | isa.BPF_IMM)) b.mov32(A, signedK);
  else if (code === (isa.BPF_LD | isa.BPF_MEM)) b.ldx(4, A, R10, word(k));
  else if (code === (isa.BPF_LD | isa.BPF_W | BPF_LEN)) b.ldx(4, A, CTX, SK_BUFF.len);
  else if (isPacketLoad(code, isa.BPF_ABS) && k >= SKF_AD_OFF) convertAncillary(b, k - SKF_AD_OFF);
  else {
    const isIndirect = isa.BPF_MODE(code) === isa.BPF_IND;
    b.raw(code, 0, isIndirect ? X.reg : 0, 0, signedK);
  }
}

/** convert_bpf_extensions */
function convertAncillary(b: ProgramBuilder, which: number): void {
  const helper = (id: number): void => {
    b.mov(R1, CTX).mov(R2, A).mov(R3, X).call(id);
  };
  switch (which) {
    case SKF_AD.PROTOCOL:
      b.ldx(2, A, CTX, SK_BUFF.protocol).be(A, 16);
      break;
    case SKF_AD.PKTTYPE:
      b.ldx(4, A, CTX, SK_BUFF.pkt_type);
      break;
    case SKF_AD.IFINDEX:
      b.ldx(4, A, CTX, SK_BUFF.ifindex);
      break;
    case SKF_AD.HATYPE:
      b.ldx(2, A, CTX, SK_BUFF_PRIVATE.devType);
      break;
    case SKF_AD.MARK:
      b.ldx(4, A, CTX, SK_BUFF.mark);
      break;
    case SKF_AD.QUEUE:
      b.ldx(4, A, CTX, SK_BUFF.queue_mapping);
      break;
    case SKF_AD.RXHASH:
      b.ldx(4, A, CTX, SK_BUFF.hash);
      break;
    case SKF_AD.VLAN_TAG:
      b.ldx(2, A, CTX, SK_BUFF.vlan_tci);
      break;
    case SKF_AD.VLAN_TAG_PRESENT:
      b.ldx(4, A, CTX, SK_BUFF.vlan_present);
      break;
    case SKF_AD.VLAN_TPID:
      b.ldx(2, A, CTX, SK_BUFF.vlan_proto).be(A, 16);
      break;
    case SKF_AD.ALU_XOR_X:
      b.xor32(A, X);
      break;
    case SKF_AD.CPU:
      helper(isa.BPF_FUNC_get_smp_processor_id);
      break;
    case SKF_AD.RANDOM:
      helper(isa.BPF_FUNC_get_prandom_u32);
      break;
    case SKF_AD.PAY_OFFSET:
      helper(SKB_HELPERS.get_pay_offset);
      break;
    case SKF_AD.NLATTR:
      helper(SKB_HELPERS.get_nlattr);
      break;
    default:
      helper(SKB_HELPERS.get_nlattr_nest);
  }
}

function convertAlu(b: ProgramBuilder, code: number, signedK: number): void {
  const op = isa.BPF_OP(code);
  const isX = isa.BPF_SRC(code) === isa.BPF_X;
  const operand = isX ? X : signedK;
  if (op === isa.BPF_NEG) b.neg32(A);
  else if (op === isa.BPF_DIV || op === isa.BPF_MOD) {
    if (isX) {
      // Division by zero ends a classic filter with 0.
      const fine = b.newLabel('div');
      b.jcond32('!=', X, 0, fine).mov32(A, 0).exit().label(fine);
    }
    if (op === isa.BPF_DIV) b.div32(A, operand);
    else b.mod32(A, operand);
  } else b[ALU_OPS[op]!](A, operand);
}

function convertJump(b: ProgramBuilder, filter: SockFilter, pc: number, at: (pc: number) => string): void {
  const { code, jt, jf, k } = filter;
  const op = isa.BPF_OP(code);
  if (op === isa.BPF_JA) {
    b.jump(at(pc + 1 + k));
    return;
  }
  const operand = isa.BPF_SRC(code) === isa.BPF_X ? X : k | 0;
  const [condition, inverse] = CONDITIONS[op as keyof typeof CONDITIONS];
  if (jt === 0 && inverse !== undefined) b.jcond32(inverse, A, operand, at(pc + 1 + jf));
  else {
    b.jcond32(condition, A, operand, at(pc + 1 + jt));
    if (jf !== 0) b.jump(at(pc + 1 + jf));
  }
}
