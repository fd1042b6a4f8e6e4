/**
 * Structured control flow from a control flow graph. A reducible graph follows the dominator tree (Ramsey, "Beyond
 * Relooper", ICFP 2022): a block with several forward predecessors is placed behind a Wasm block that its dominator opens, a
 * block with backward predecessors opens a Wasm loop. Any other graph runs as a loop around a br_table.
 */
import { type Cfg, dominatorSizes } from './cfg.ts';
import type { UnrollPlan } from './loops.ts';
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

function emitTree(cfg: Cfg, code: Code, emitter: BlockEmitter): void {
  const { blocks, position, preds, idom, order } = cfg;
  const count = blocks.length;
  const isLoop = new Uint8Array(count);
  const isMerge = new Uint8Array(count);
  for (const block of order) {
    let forward = 0;
    for (const pred of preds[block]!) {
      if (position[pred]! >= position[block]!) isLoop[block] = 1;
      else forward++;
    }
    if (forward > 1) isMerge[block] = 1;
  }
  // Merge blocks that each block immediately dominates, in reverse postorder.
  const merges: number[][] = blocks.map(() => []);
  for (const block of order) if (isMerge[block] === 1 && block !== 0) merges[idom[block]!]!.push(block);
  const sizes = dominatorSizes(cfg);
  const loopLabel: (Label | undefined)[] = new Array(count);
  const mergeLabel: (Label | undefined)[] = new Array(count);
  const plans: (UnrollPlan | undefined)[] = new Array(count);

  // An explicit stack of actions: generated programs nest deeper than the JavaScript stack allows.
  const work: (() => void)[] = [];

  const tree = (block: number): void => {
    if (isLoop[block] === 1) {
      const plan = emitter.unrolling(block);
      plans[block] = plan;
      if (plan !== undefined && plan.peeled > 0) emitter.bodies(block, plan.peeled);
      loopLabel[block] = code.loop();
      work.push(() => code.end());
    }
    const children = merges[block]!;
    for (let at = children.length - 1; at >= 0; at--) {
      const child = children[at]!;
      mergeLabel[child] = code.block();
      work.push(() => tree(child));
      work.push(() => code.end());
    }
    work.push(() => leaf(block));
  };

  /** The label to branch to, or undefined where the target is placed inline. */
  const jumpLabel = (from: number, to: number): Label | undefined => {
    if (position[to]! <= position[from]!) return loopLabel[to]!;
    return isMerge[to] === 1 ? mergeLabel[to]! : undefined;
  };

  const branch = (from: number, to: number): void => {
    const label = jumpLabel(from, to);
    if (label === undefined) tree(to);
    else code.br(label);
  };

  const leaf = (block: number): void => {
    const plan = plans[block];
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
    const takenLabel = jumpLabel(block, taken);
    const otherLabel = jumpLabel(block, other);
    if (takenLabel !== undefined) {
      code.brIf(takenLabel);
      work.push(() => branch(block, other));
    } else if (otherLabel !== undefined) {
      code.op(OP.i32Eqz).brIf(otherLabel);
      work.push(() => tree(taken));
    } else {
      // Neither subtree falls through, so the larger one goes behind the smaller one's `if` and nesting stays flat.
      const takenInside = sizes[taken]! <= sizes[other]!;
      if (!takenInside) code.op(OP.i32Eqz);
      code.if();
      work.push(() => tree(takenInside ? other : taken));
      work.push(() => code.end());
      work.push(() => tree(takenInside ? taken : other));
    }
  };

  work.push(() => tree(0));
  while (work.length > 0) work.pop()!();
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
