/**
 * Structured control flow from a control flow graph. A reducible graph follows the dominator tree (Ramsey, "Beyond
 * Relooper", ICFP 2022): a block with several forward predecessors is placed behind a Wasm block that its dominator opens, a
 * block with backward predecessors opens a Wasm loop. Any other graph runs as a loop around a br_table.
 */
import { type Cfg, dominatorSizes } from './cfg.ts';
import type { UnrollPlan } from './loops.ts';
import { scratch } from './scratch.ts';
import { type Code, I32, type Label, OP } from './wasm.ts';

/** What the structure needs of the instruction emitter. */
export interface BlockEmitter {
  /** The block's instructions without a branch; an exit is a Wasm return. */
  body(block: number): void;
  /** Leaves an i32 that is not 0 where the block's first successor comes next. Only for blocks with two. */
  condition(block: number): void;
  /** The body of a loop of one block, `copies` times in a row. */
  bodies(block: number, copies: number): void;
  /** How such a loop is unrolled, if it is. */
  unrolling(block: number): UnrollPlan | undefined;
}

/** Emits every reachable block. Control never falls out of the end. */
export function emitStructured(cfg: Cfg, code: Code, emitter: BlockEmitter): void {
  if (cfg.reducible) emitTree(cfg, code, emitter);
  else emitDispatch(cfg, code, emitter);
  code.op(OP.unreachable);
}

/** What is left to do while the tree is emitted, each with a block: an explicit stack, because generated programs nest deep. */
const TREE = 0;
const LEAF = 1;
const END = 2;
/** Control goes on from a block to the one pushed before it. */
const BRANCH = 3;
const KINDS = 4;

const loops = scratch();
const merges = scratch();
const lastMerges = scratch();
const previousMerges = scratch();
const loopDepths = scratch();
const mergeDepths = scratch();

function emitTree(cfg: Cfg, code: Code, emitter: BlockEmitter): void {
  const { blocks, position, predecessors, predecessorsAt, idom, order } = cfg;
  const count = blocks.length;
  const isLoop = loops(count);
  const isMerge = merges(count);
  // Merge blocks that each block immediately dominates, the last in reverse postorder first.
  const lastMerge = lastMerges(count, -1);
  const previousMerge = previousMerges(count, -1);
  for (const block of order) {
    let forward = 0;
    for (let at = predecessorsAt[block]!; at < predecessorsAt[block + 1]!; at++) {
      if (position[predecessors[at]!]! >= position[block]!) isLoop[block] = 1;
      else forward++;
    }
    if (forward <= 1) continue;
    isMerge[block] = 1;
    const dominator = idom[block]!;
    if (block !== 0) {
      previousMerge[block] = lastMerge[dominator]!;
      lastMerge[dominator] = block;
    }
  }
  const sizes = dominatorSizes(order, idom);
  const loopDepth = loopDepths(count);
  const mergeDepth = mergeDepths(count);
  const plans = new Map<number, UnrollPlan>();
  const work: number[] = [];
  const later = (kind: number, block: number): void => {
    work.push(block * KINDS + kind);
  };

  const tree = (block: number): void => {
    if (isLoop[block] === 1) {
      const plan = emitter.unrolling(block);
      if (plan !== undefined) plans.set(block, plan);
      if (plan !== undefined && plan.peeled > 0) emitter.bodies(block, plan.peeled);
      loopDepth[block] = code.loop().depth;
      later(END, block);
    }
    for (let child = lastMerge[block]!; child >= 0; child = previousMerge[child]!) {
      mergeDepth[child] = code.block().depth;
      later(TREE, child);
      later(END, child);
    }
    later(LEAF, block);
  };

  /** The depth to branch to, or 0 where the target is placed inline. */
  const jumpDepth = (from: number, to: number): number => {
    if (position[to]! <= position[from]!) return loopDepth[to]!;
    return isMerge[to] === 1 ? mergeDepth[to]! : 0;
  };

  const branch = (from: number, to: number): void => {
    const depth = jumpDepth(from, to);
    if (depth === 0) tree(to);
    else code.br({ depth });
  };

  const leaf = (block: number): void => {
    const plan = plans.get(block);
    if (plan === undefined) emitter.body(block);
    else emitter.bodies(block, plan.copies);
    const { succs } = blocks[block]!;
    if (succs.length === 0) return;
    const taken = succs[0]!;
    if (succs.length === 1) {
      branch(block, taken);
      return;
    }
    const other = succs[1]!;
    emitter.condition(block);
    const takenDepth = jumpDepth(block, taken);
    const otherDepth = jumpDepth(block, other);
    if (takenDepth !== 0) {
      code.brIf({ depth: takenDepth });
      work.push(other);
      later(BRANCH, block);
    } else if (otherDepth !== 0) {
      code.op(OP.i32Eqz).brIf({ depth: otherDepth });
      later(TREE, taken);
    } else {
      // Neither subtree falls through, so the larger one goes behind the smaller one's `if` and nesting stays flat.
      const takenInside = sizes[taken]! <= sizes[other]!;
      if (!takenInside) code.op(OP.i32Eqz);
      code.if();
      later(TREE, takenInside ? other : taken);
      later(END, block);
      later(TREE, takenInside ? taken : other);
    }
  };

  tree(0);
  while (work.length > 0) {
    const next = work.pop()!;
    const block = Math.floor(next / KINDS);
    const kind = next % KINDS;
    if (kind === TREE) tree(block);
    else if (kind === LEAF) leaf(block);
    else if (kind === END) code.end();
    else branch(block, work.pop()!);
  }
}

function emitDispatch(cfg: Cfg, code: Code, emitter: BlockEmitter): void {
  const { blocks, order, position } = cfg;
  const next = code.local(I32);
  const loop = code.loop();
  const labels: Label[] = [];
  // The first block in reverse postorder is the innermost.
  for (let at = order.length - 1; at >= 0; at--) labels[at] = code.block();
  code.get(next).brTable(labels.slice(0, -1), labels.at(-1)!);
  for (const block of order) {
    code.end();
    emitter.body(block);
    const { succs } = blocks[block]!;
    if (succs.length === 0) continue;
    if (succs.length === 1) code.i32(position[succs[0]!]!);
    else {
      code.i32(position[succs[0]!]!).i32(position[succs[1]!]!);
      emitter.condition(block);
      code.op(OP.select);
    }
    code.set(next).br(loop);
  }
  code.end();
}
