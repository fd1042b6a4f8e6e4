/**
 * Control flow of one BPF function: basic blocks, reverse postorder, dominators, and whether the graph is reducible.
 */
import { BpfError } from '../errors.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { scratch } from './scratch.ts';

export interface BasicBlock {
  /** First slot. */
  readonly start: number;
  /** Slot after the last one. */
  readonly end: number;
  /** Slot of the jump or exit that ends the block, or -1 where the next block simply follows. */
  readonly terminator: number;
  /** Blocks that come next: none (exit), one, or two (the taken branch first). */
  readonly succs: readonly number[];
}

export interface Cfg {
  /** Reachable blocks; block 0 is the entry. */
  readonly blocks: readonly BasicBlock[];
  /** Blocks in reverse postorder, and the position of each block in it. */
  readonly order: Int32Array;
  readonly position: Int32Array;
  /** Immediate dominator of each block; the entry's is itself. Only for reducible graphs. */
  readonly idom: Int32Array;
  /** Blocks that come before: those of block b are predecessors[predecessorsAt[b]] up to predecessorsAt[b + 1]. */
  readonly predecessors: Int32Array;
  readonly predecessorsAt: Int32Array;
  readonly reducible: boolean;
}

const JA64 = isa.BPF_JMP | isa.BPF_JA;
const JA32 = isa.BPF_JMP32 | isa.BPF_JA;
/** Jumps to jumps that are followed: an empty loop has no end. */
const MAX_HOPS = 8;

/** True for every instruction that ends a basic block. */
export function endsBlock(insn: Insn): boolean {
  const cls = isa.BPF_CLASS(insn.code);
  if (cls !== isa.BPF_JMP && cls !== isa.BPF_JMP32) return false;
  const op = isa.BPF_OP(insn.code);
  return !(cls === isa.BPF_JMP && (op === isa.BPF_CALL || insn.code === isa.BPF_TAIL_CALL));
}

/** Where control that comes to `pc` gets to past plain jumps. */
function threadJumps(insns: readonly Insn[], pc: number): number {
  let at = pc;
  for (let hops = 0; hops < MAX_HOPS; hops++) {
    const insn = insns[at];
    if (insn === undefined || (insn.code !== JA64 && insn.code !== JA32)) break;
    at += 1 + isa.jumpOffset(insn);
  }
  return at;
}

/** No slot. */
const NONE = -1;

const marksOf = scratch();
const takenOf = scratch();
const otherOf = scratch();
const blocksAt = scratch();

/** What is known of an instruction once control has come by. */
const SEEN = 1;
const LEADER = 2;
/** The block ends here: a jump, an exit, or a call that never comes back. */
const LAST = 4;
const WIDE = 8;

/**
 * The graph of the function at `entry`. Branches into code that `reachable` excludes are dropped, as the verifier's proof
 * allows. Throws BpfError EINVAL where control leaves the program.
 */
export function buildCfg(insns: readonly Insn[], entry: number, reachable?: readonly boolean[]): Cfg {
  const marks = marksOf(insns.length);
  /** Where control goes on behind a jump: the branch, and the slot behind. */
  const taken = takenOf(insns.length, NONE);
  const other = otherOf(insns.length, NONE);
  const check = (target: number, from: number): void => {
    if (target < 0 || target >= insns.length) {
      throw new BpfError('EINVAL', `control leaves the program from instruction ${from}`);
    }
  };
  const todo: number[] = [];
  const lead = (target: number, from: number): number => {
    if (reachable !== undefined && reachable[target] === false) return NONE;
    check(target, from);
    marks[target]! |= LEADER;
    todo.push(target);
    return target;
  };
  check(entry, entry);
  marks[entry]! |= LEADER;
  todo.push(entry);
  while (todo.length > 0) {
    let pc = todo.pop()!;
    while ((marks[pc]! & SEEN) === 0) {
      const insn = insns[pc]!;
      if (endsBlock(insn)) {
        marks[pc]! |= SEEN | LAST;
        const { code } = insn;
        if (code === (isa.BPF_JMP | isa.BPF_EXIT)) break;
        const target = threadJumps(insns, pc + 1 + isa.jumpOffset(insn));
        taken[pc] = lead(target, pc);
        if (code === JA64 || code === JA32) break;
        const next = threadJumps(insns, pc + 1);
        if (next !== target) other[pc] = lead(next, pc);
        break;
      }
      const wide = isa.isLdImm64(insn);
      marks[pc]! |= wide ? SEEN | WIDE : SEEN;
      const next = pc + (wide ? 2 : 1);
      check(next, pc);
      // Nothing comes behind bpf_throw().
      if (reachable !== undefined && reachable[next] === false) {
        marks[pc]! |= LAST;
        break;
      }
      pc = next;
    }
  }
  return graph(insns, entry, marks, taken, other);
}

/** Blocks from what was found out about each slot. */
function graph(
  insns: readonly Insn[],
  entry: number,
  marks: Int32Array,
  taken: Int32Array,
  other: Int32Array,
): Cfg {
  const starts = [entry];
  for (let pc = 0; pc < insns.length; pc++) {
    if ((marks[pc]! & (LEADER | SEEN)) === (LEADER | SEEN) && pc !== entry) starts.push(pc);
  }
  const blockAt = blocksAt(insns.length);
  for (let index = 0; index < starts.length; index++) blockAt[starts[index]!] = index;
  const blocks: BasicBlock[] = new Array(starts.length);
  for (let index = 0; index < starts.length; index++) {
    const start = starts[index]!;
    let pc = start;
    let block: BasicBlock | undefined;
    while (block === undefined) {
      const mark = marks[pc]!;
      if ((mark & LAST) !== 0) {
        const first = taken[pc]!;
        const second = other[pc]!;
        let succs: readonly number[] = NO_BLOCKS;
        if (first !== NONE) succs = second === NONE ? [blockAt[first]!] : [blockAt[first]!, blockAt[second]!];
        else if (second !== NONE) succs = [blockAt[second]!];
        block = { start, end: pc + 1, terminator: endsBlock(insns[pc]!) ? pc : NONE, succs };
        break;
      }
      pc += (mark & WIDE) !== 0 ? 2 : 1;
      if ((marks[pc]! & LEADER) !== 0) block = { start, end: pc, terminator: NONE, succs: [blockAt[pc]!] };
    }
    blocks[index] = block;
  }
  return { blocks, ...flow(blocks) };
}

const NO_BLOCKS: readonly number[] = [];

const statesOf = scratch();
const stackOf = scratch();
const takenSuccs = scratch();
const filledOf = scratch();

/** Depth-first order, dominators and reducibility. */
function flow(blocks: readonly BasicBlock[]): Omit<Cfg, 'blocks'> {
  const n = blocks.length;
  const order = new Int32Array(n);
  let ordered = n;
  const state = statesOf(n);
  /** The blocks on the way, and how many successors of each have been taken. */
  const stack = stackOf(n);
  const taken = takenSuccs(n);
  let depth = 1;
  state[0] = 1;
  while (depth > 0) {
    const block = stack[depth - 1]!;
    const { succs } = blocks[block]!;
    const next = taken[block]!;
    if (next < succs.length) {
      taken[block] = next + 1;
      const succ = succs[next]!;
      if (state[succ] === 0) {
        state[succ] = 1;
        stack[depth++] = succ;
      }
    } else {
      // All blocks are reached, so that the last one done comes to place 0.
      order[--ordered] = block;
      depth--;
    }
  }
  const position = new Int32Array(n);
  const predecessorsAt = new Int32Array(n + 1);
  for (let at = 0; at < n; at++) {
    const block = order[at]!;
    position[block] = at;
    for (const succ of blocks[block]!.succs) predecessorsAt[succ + 1]!++;
  }
  for (let block = 0; block < n; block++) predecessorsAt[block + 1]! += predecessorsAt[block]!;
  const predecessors = new Int32Array(predecessorsAt[n]!);
  const filled = filledOf(n);
  for (let block = 0; block < n; block++) filled[block] = predecessorsAt[block]!;
  for (let at = 0; at < n; at++) {
    const block = order[at]!;
    for (const succ of blocks[block]!.succs) predecessors[filled[succ]!++] = block;
  }

  const idom = forwardDominators(order, position, predecessors, predecessorsAt);

  const reducible = isReducible(blocks, order, position, idom);
  return { order, position, idom, predecessors, predecessorsAt, reducible };
}

/**
 * A graph is reducible when every backward edge goes to a block that dominates its source; dominance without backward edges
 * is then the same as with them. It is asked by intervals of the dominator tree.
 */
function isReducible(
  blocks: readonly BasicBlock[],
  order: Int32Array,
  position: Int32Array,
  idom: Int32Array,
): boolean {
  let intervals: { enter: Int32Array; leave: Int32Array } | undefined;
  for (let block = 0; block < blocks.length; block++) {
    for (const succ of blocks[block]!.succs) {
      if (position[succ]! > position[block]!) continue;
      intervals ??= dominatorIntervals(order, idom);
      const { enter, leave } = intervals;
      if (!(enter[succ]! <= enter[block]! && leave[block]! <= leave[succ]!)) return false;
    }
  }
  return true;
}

const depthsOf = scratch();
const skipsOf = scratch();

/**
 * Immediate dominators in the graph of forward edges: one pass in reverse postorder, each block's dominator being the nearest common
 * ancestor of its predecessors. Ancestors are found by skips (Myers, "An applicative random-access stack"): chains of thousands
 * of blocks are usual in generated programs.
 */
function forwardDominators(
  order: Int32Array,
  position: Int32Array,
  predecessors: Int32Array,
  predecessorsAt: Int32Array,
): Int32Array {
  const idom = new Int32Array(position.length);
  const depth = depthsOf(position.length);
  const skip = skipsOf(position.length);
  const nearest = (first: number, second: number): number => {
    let a = first;
    let b = second;
    if (depth[a]! < depth[b]!) [a, b] = [b, a];
    while (depth[a]! > depth[b]!) a = depth[skip[a]!]! >= depth[b]! ? skip[a]! : idom[a]!;
    while (a !== b) {
      if (skip[a] !== skip[b]) {
        a = skip[a]!;
        b = skip[b]!;
      } else {
        a = idom[a]!;
        b = idom[b]!;
      }
    }
    return a;
  };
  for (const block of order) {
    let dominator = -1;
    for (let at = predecessorsAt[block]!; at < predecessorsAt[block + 1]!; at++) {
      const pred = predecessors[at]!;
      if (position[pred]! >= position[block]!) continue;
      dominator = dominator === -1 ? pred : nearest(pred, dominator);
    }
    if (dominator === -1) continue;
    idom[block] = dominator;
    depth[block] = depth[dominator]! + 1;
    const far = skip[dominator]!;
    const isEven = depth[dominator]! - depth[far]! === depth[far]! - depth[skip[far]!]!;
    skip[block] = isEven ? skip[far]! : dominator;
  }
  return idom;
}

const entersOf = scratch();
const leavesOf = scratch();
const nextOf = scratch();

function dominatorIntervals(order: Int32Array, idom: Int32Array): { enter: Int32Array; leave: Int32Array } {
  const size = dominatorSizes(order, idom);
  // Children take consecutive intervals after their parent's own number, in reverse postorder.
  const enter = entersOf(idom.length);
  const leave = leavesOf(idom.length);
  const next = nextOf(idom.length);
  for (const block of order) {
    if (block === 0) enter[block] = 0;
    else {
      const parent = idom[block]!;
      enter[block] = next[parent]!;
      next[parent] = next[parent]! + size[block]!;
    }
    next[block] = enter[block]! + 1;
    leave[block] = enter[block]! + size[block]!;
  }
  return { enter, leave };
}

const sizesOf = scratch();

/** Blocks in each dominator subtree, until the next call. */
export function dominatorSizes(order: Int32Array, idom: Int32Array): Int32Array {
  const size = sizesOf(idom.length, 1);
  for (let at = order.length - 1; at > 0; at--) {
    const block = order[at]!;
    const parent = idom[block]!;
    size[parent] = size[parent]! + size[block]!;
  }
  return size;
}
