/**
 * How long loops may go on. The verifier proves that they end (may_goto, BPF_MAX_LOOPS rounds), which is far more than a call of
 * the traced process may be held up for. So every round of any loop, and every entry of a loop over a map, takes one from a
 * budget that the program starts with: about a millisecond's worth of rounds by the costs below.
 */
import { R0, R1, R2 } from '../../bpf/builder.ts';
import type { Insn } from '../../bpf/isa.ts';
import * as isa from '../../bpf/isa.ts';
import { JS_KFUNCS, type JsKfuncName } from '../../kernel/trace/js-kfuncs.ts';
import * as ast from '../ast.ts';
import type { ProbeInfo } from '../passes/semantics.ts';
import { emitError } from './async.ts';
import type { Place } from './frame.ts';
import type { Gen } from './gen.ts';

/** Nanoseconds that the loops of one hit may take, about. */
const HIT_NS = 1_000_000;
/** Rounds, whatever they cost. */
const FEWEST = 32;
/** BEGIN, END and interval run on the agent's own thread. */
const OFF_MAIN_THREAD = isa.BPF_MAX_LOOPS - 1;
const OFF_MAIN_TYPES: ReadonlySet<string> = new Set(['BEGIN', 'END', 'interval']);

/** What instructions cost at most, in nanoseconds; bench/hit.mjs measures them. */
const INSN_NS = 1;
const HELPER_NS = 50;
/** A loop over a map, but for its rounds, which count by themselves; and what len(@map) takes for its entries. */
const FOR_EACH_NS = 100;
const LEN_NS = 20_000;
const KFUNC_NS: Record<JsKfuncName, number> = {
  js_path: 150,
  js_str: 300,
  js_value: 10_000,
  js_buf: 300,
  js_len: 150,
  js_id: 150,
  js_arg: 50,
  js_stackid: 20_000,
  js_asyncid: 50,
  js_truthy: 100,
  js_at: 200,
};
const KFUNC_NS_BY_ID: ReadonlyMap<number, number> = new Map(
  Object.entries(KFUNC_NS).map(([name, ns]) => [JS_KFUNCS[name as JsKfuncName].id, ns]),
);

/** The budget's place in scratch memory, and the most expensive round of any loop so far. */
export interface LoopBudget {
  readonly place: Place;
  /** The instruction that stores the budget; its immediate is set at last. */
  readonly at: number;
  roundNs: number;
  /** How often len(@map) was emitted. */
  lens: number;
}

/** Emits the budget's start, for programs with loops. */
export function startBudget(gen: Gen, probe: ast.Probe): void {
  let loops = false;
  ast.walkProbe(
    probe,
    () => undefined,
    (statement) => {
      if (['while', 'for-range', 'for-map'].includes(statement.kind)) loops = true;
    },
  );
  if (!loops) return;
  const place = gen.frame.allocOpaque(8);
  gen.budget = { place, at: gen.b.length, roundNs: INSN_NS, lens: 0 };
  gen.b.st(8, place.reg, place.off, 0);
}

/** Takes a round from the budget; goes to the label when there is none left. */
export function takeRound(gen: Gen, spent: string): void {
  const { place } = gen.budget!;
  gen.b.ldx(8, R0, place.reg, place.off).jcond('==', R0, 0, spent);
  gen.b.sub(R0, 1).stx(8, place.reg, place.off, R0);
}

/** Tells once that a loop was ended; R0 to R5 are overwritten. */
export function emitSpent(gen: Gen, loop: ast.While | ast.ForRange | ast.ForMap): void {
  const { b, module } = gen;
  const told = gen.label('told');
  const { map, off } = module.reported(loop);
  b.ldMapValue(R1, map, off).ldx(8, R2, R1, 0).jcond('!=', R2, 0, told).st(8, R1, 0, 1);
  emitError(gen, loop, 'Loop limit reached: a hit may not hold up the process for longer');
  b.label(told);
}

/** A loop begins here; the result is called when its round is emitted: rounds cost at most what is there then. */
export function measureRound(gen: Gen): () => void {
  const budget = gen.budget!;
  const { lens } = budget;
  const start = gen.b.length;
  return () => {
    const ns = costOf(gen.b.emitted(start)) + (budget.lens - lens) * LEN_NS;
    budget.roundNs = Math.max(budget.roundNs, ns);
  };
}

function costOf(insns: readonly Insn[]): number {
  let ns = 0;
  for (const { code, src, imm } of insns) {
    const isCall = code === (isa.BPF_JMP | isa.BPF_CALL);
    if (!isCall) ns += INSN_NS;
    else if (src === isa.BPF_PSEUDO_KFUNC_CALL) ns += KFUNC_NS_BY_ID.get(imm) ?? HELPER_NS;
    else ns += imm === isa.BPF_FUNC_for_each_map_elem ? FOR_EACH_NS : HELPER_NS;
  }
  return ns;
}

/** Rounds that the loops of a program have, all together. */
export function rounds(info: ProbeInfo, { roundNs }: LoopBudget): number {
  if (info.points.every(({ type }) => OFF_MAIN_TYPES.has(type))) return OFF_MAIN_THREAD;
  return Math.max(FEWEST, Math.floor(HIT_NS / roundNs));
}
