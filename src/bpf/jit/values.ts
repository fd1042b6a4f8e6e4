/**
 * What is known about registers without the verifier: constants, map references and addresses in the stack frame, by one
 * forward data-flow pass over a function; and, within a block, shift pairs that are rotations.
 */

import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { BasicBlock, Cfg } from './cfg.ts';

export type Value =
  | { readonly kind: 'const'; readonly value: bigint }
  /** Map `index` itself. */
  | { readonly kind: 'map'; readonly index: number }
  /** Byte `off` of a map's memory of values. */
  | { readonly kind: 'mapValue'; readonly index: number; readonly off: number }
  /** r10 + off */
  | { readonly kind: 'frame'; readonly off: number }
  /** A number from 0 to `max`, a u32. */
  | { readonly kind: 'bounded'; readonly max: number }
  /** The address of a map's element, not 0. */
  | { readonly kind: 'element' };

export const ELEMENT: Value = { kind: 'element' };

const bounded = (max: number): Value => ({ kind: 'bounded', max });

/** The largest number that a register may hold, if that is a u32. */
export function largest(value: Value | undefined): number | undefined {
  if (value?.kind === 'bounded') return value.max;
  return value?.kind === 'const' && value.value <= 0xffffffffn ? Number(value.value) : undefined;
}

/** One entry a register; undefined is "anything". */
export type RegState = (Value | undefined)[];

export function sameValue(a: Value | undefined, b: Value | undefined): boolean {
  if (a === b) return true;
  if (a === undefined || b === undefined || a.kind !== b.kind) return false;
  if (a.kind === 'const') return a.value === (b as typeof a).value;
  if (a.kind === 'map') return a.index === (b as typeof a).index;
  if (a.kind === 'frame') return a.off === (b as typeof a).off;
  if (a.kind === 'bounded') return a.max === (b as typeof a).max;
  if (a.kind === 'element') return true;
  return a.index === (b as typeof a).index && a.off === (b as typeof a).off;
}

function addImm(value: Value | undefined, imm: number): Value | undefined {
  if (value === undefined || value.kind === 'map' || value.kind === 'element') return undefined;
  if (value.kind === 'bounded') {
    return imm >= 0 && value.max + imm <= 0xffffffff ? bounded(value.max + imm) : undefined;
  }
  if (value.kind === 'const') return { kind: 'const', value: BigInt.asUintN(64, value.value + BigInt(imm)) };
  return { ...value, off: value.off + imm };
}

function isCall(insn: Insn): boolean {
  return (
    (isa.BPF_CLASS(insn.code) === isa.BPF_JMP && isa.BPF_OP(insn.code) === isa.BPF_CALL) ||
    insn.code === isa.BPF_TAIL_CALL
  );
}

/** What an operation with an immediate limits its result to. */
function limited(
  before: Value | undefined,
  op: number,
  wide: boolean,
  { imm, off }: Insn,
): Value | undefined {
  const max = largest(before) ?? (wide ? 2 ** 64 : 0xffffffff);
  let limit: number | undefined;
  if (op === isa.BPF_AND) limit = imm < 0 && wide ? max : Math.min(max, imm >>> 0);
  else if (op === isa.BPF_RSH) limit = Math.floor(max / 2 ** (imm & (wide ? 63 : 31)));
  else if (op === isa.BPF_MOD && off === 0 && imm > 0) limit = imm - 1;
  return limit !== undefined && limit <= 0xffffffff ? bounded(limit) : undefined;
}

/** Applies one instruction to a state, in place. */
export function step(state: RegState, insns: readonly Insn[], pc: number): void {
  const insn = insns[pc]!;
  const cls = isa.BPF_CLASS(insn.code);
  if (cls === isa.BPF_ALU64 || cls === isa.BPF_ALU) {
    const op = isa.BPF_OP(insn.code);
    const wide = cls === isa.BPF_ALU64;
    const isReg = isa.BPF_SRC(insn.code) === isa.BPF_X;
    let result: Value | undefined;
    if (op === isa.BPF_MOV && insn.off === 0) {
      if (!isReg) result = { kind: 'const', value: BigInt.asUintN(wide ? 64 : 32, BigInt(insn.imm)) };
      else {
        const source = state[insn.src];
        if (wide || source?.kind === 'bounded') result = source;
        else if (source?.kind === 'const') result = { kind: 'const', value: source.value & 0xffffffffn };
      }
    } else if (wide && !isReg && (op === isa.BPF_ADD || op === isa.BPF_SUB)) {
      result = addImm(state[insn.dst], op === isa.BPF_ADD ? insn.imm : -insn.imm);
    } else if (!isReg) result = limited(state[insn.dst], op, wide, insn);
    state[insn.dst] = result;
  } else if (cls === isa.BPF_LDX) {
    const bytes = isa.sizeBytes(insn.code);
    const isShort = isa.BPF_MODE(insn.code) === isa.BPF_MEM && bytes < 8;
    state[insn.dst] = isShort ? bounded(2 ** (8 * bytes) - 1) : undefined;
  } else if (cls === isa.BPF_LD) {
    if (!isa.isLdImm64(insn)) {
      for (let reg = 0; reg <= 5; reg++) state[reg] = undefined;
      return;
    }
    const high = insns[pc + 1]!;
    if (insn.src === 0) state[insn.dst] = { kind: 'const', value: isa.ldImm64Value(insn, high) };
    else if (insn.src === isa.BPF_PSEUDO_MAP_IDX) state[insn.dst] = { kind: 'map', index: insn.imm };
    else if (insn.src === isa.BPF_PSEUDO_MAP_IDX_VALUE) {
      state[insn.dst] = { kind: 'mapValue', index: insn.imm, off: high.imm };
    } else state[insn.dst] = undefined;
  } else if (cls === isa.BPF_STX && isa.BPF_MODE(insn.code) === isa.BPF_ATOMIC) {
    if (insn.imm === isa.BPF_CMPXCHG) state[0] = undefined;
    else if (insn.imm === isa.BPF_LOAD_ACQ) state[insn.dst] = undefined;
    else if ((insn.imm & isa.BPF_FETCH) !== 0) state[insn.src] = undefined;
  } else if (isCall(insn)) {
    for (let reg = 0; reg <= 5; reg++) state[reg] = undefined;
  }
}

/** The state at the start of each block. */
export function analyse(insns: readonly Insn[], cfg: Cfg): RegState[] {
  const { blocks, order, position } = cfg;
  const entries: (RegState | undefined)[] = new Array(blocks.length);
  const initial: RegState = new Array(isa.MAX_BPF_REG).fill(undefined);
  initial[isa.BPF_REG_FP] = { kind: 'frame', off: 0 };
  entries[0] = initial;
  let from = 0;
  while (from < order.length) {
    // Blocks whose entry state became weaker behind us make us start again from the first of them.
    let again = order.length;
    for (let at = from; at < order.length; at++) {
      const index = order[at]!;
      const block = blocks[index]!;
      const state = entries[index]!.slice();
      for (let pc = block.start; pc < block.end; pc += isa.isLdImm64(insns[pc]!) ? 2 : 1)
        step(state, insns, pc);
      let isTaken = false;
      for (const succ of block.succs) {
        const known = entries[succ];
        if (known === undefined) {
          // One successor can have the state itself.
          entries[succ] = isTaken ? state.slice() : state;
          isTaken = true;
        } else if (meet(known, state) && position[succ]! <= at) again = Math.min(again, position[succ]!);
      }
    }
    from = again;
  }
  return entries as RegState[];
}

function meet(into: RegState, other: RegState): boolean {
  let changed = false;
  for (let reg = 0; reg < into.length; reg++) {
    if (into[reg] !== undefined && !sameValue(into[reg], other[reg])) {
      into[reg] = undefined;
      changed = true;
    }
  }
  return changed;
}

/** `dst = rotl(value, count)`, found at the instruction that joins the two shifted halves. */
export interface Rotation {
  readonly wide: boolean;
  readonly count: number;
  /** Which saved value is rotated: an index into `saves`. */
  readonly saved: number;
}

export interface Rotations {
  readonly at: ReadonlyMap<number, Rotation>;
  /** Values to keep: the register's content right after instruction `after` (-1: at the block's start). */
  readonly saves: readonly { readonly after: number; readonly reg: number }[];
}

interface Shift {
  readonly left: boolean;
  readonly wide: boolean;
  readonly base: number;
  readonly count: number;
}

/** True where the block has what a rotation is made of: a shift to each side, then a joining operation. Most have not. */
function mayRotate(insns: readonly Insn[], block: BasicBlock): boolean {
  let left = false;
  let right = false;
  for (let pc = block.start; pc < block.end; pc++) {
    const { code } = insns[pc]!;
    const cls = isa.BPF_CLASS(code);
    if (cls !== isa.BPF_ALU64 && cls !== isa.BPF_ALU) {
      if (cls === isa.BPF_LD && isa.isLdImm64(insns[pc]!)) pc++;
      continue;
    }
    const op = isa.BPF_OP(code);
    if (isa.BPF_SRC(code) === isa.BPF_K) {
      if (op === isa.BPF_LSH) left = true;
      else if (op === isa.BPF_RSH) right = true;
    } else if (left && right && (op === isa.BPF_OR || op === isa.BPF_ADD || op === isa.BPF_XOR)) return true;
  }
  return false;
}

/** Finds `x << k | x >> (size - k)` within one block, by local value numbering. */
export function findRotations(insns: readonly Insn[], block: BasicBlock): Rotations | undefined {
  if (!mayRotate(insns, block)) return undefined;
  const at = new Map<number, Rotation>();
  const saves: { after: number; reg: number }[] = [];
  const savedOf = new Map<number, number>();
  const births: { after: number; reg: number }[] = [];
  const shifts = new Map<number, Shift>();
  const numbers: number[] = [];
  for (let reg = 0; reg < isa.MAX_BPF_REG; reg++) numbers[reg] = births.push({ after: -1, reg }) - 1;
  const define = (reg: number, pc: number): number => {
    const id = births.push({ after: pc, reg }) - 1;
    numbers[reg] = id;
    return id;
  };
  for (let pc = block.start; pc < block.end; pc++) {
    const insn = insns[pc]!;
    const cls = isa.BPF_CLASS(insn.code);
    const { dst, src } = insn;
    if (cls === isa.BPF_ALU64 || cls === isa.BPF_ALU) {
      const wide = cls === isa.BPF_ALU64;
      const bits = wide ? 64 : 32;
      const op = isa.BPF_OP(insn.code);
      const isReg = isa.BPF_SRC(insn.code) === isa.BPF_X;
      if (op === isa.BPF_MOV && isReg && insn.off === 0 && wide) {
        numbers[dst] = numbers[src]!;
        continue;
      }
      // A 32-bit move keeps the low half, which is all that 32-bit shifts look at.
      if (op === isa.BPF_MOV && isReg && insn.off === 0) {
        const base = numbers[src]!;
        const id = define(dst, pc);
        shifts.set(id, { left: true, wide: false, base, count: 0 });
        continue;
      }
      if ((op === isa.BPF_LSH || op === isa.BPF_RSH) && !isReg && insn.imm > 0 && insn.imm < bits) {
        let base = numbers[dst]!;
        const copy = shifts.get(base);
        if (!wide && copy?.count === 0) base = copy.base;
        const id = define(dst, pc);
        shifts.set(id, { left: op === isa.BPF_LSH, wide, base, count: insn.imm });
        continue;
      }
      if ((op === isa.BPF_OR || op === isa.BPF_ADD || op === isa.BPF_XOR) && isReg) {
        const a = shifts.get(numbers[dst]!);
        const b = shifts.get(numbers[src]!);
        if (
          a !== undefined &&
          b !== undefined &&
          a.count > 0 &&
          a.wide === wide &&
          b.wide === wide &&
          a.left !== b.left &&
          a.base === b.base &&
          a.count + b.count === bits
        ) {
          let saved = savedOf.get(a.base);
          if (saved === undefined) {
            saved = saves.push(births[a.base]!) - 1;
            savedOf.set(a.base, saved);
          }
          at.set(pc, { wide, count: a.left ? a.count : b.count, saved });
        }
      }
      define(dst, pc);
    } else if (cls === isa.BPF_LDX) define(dst, pc);
    else if (cls === isa.BPF_LD) {
      if (isa.isLdImm64(insn)) {
        define(dst, pc);
        pc++;
      } else for (let reg = 0; reg <= 5; reg++) define(reg, pc);
    } else if (cls === isa.BPF_STX && isa.BPF_MODE(insn.code) === isa.BPF_ATOMIC) {
      define(0, pc);
      define(src, pc);
      define(dst, pc);
    } else if (isCall(insn)) {
      for (let reg = 0; reg <= 5; reg++) define(reg, pc);
    }
  }
  return at.size === 0 ? undefined : { at, saves };
}
