/**
 * A filter's program as eBPF. The context is the record's fixed part: numbers are compared in eBPF; strings, CPUs and cpumasks are
 * asked of the kfunc `trace_filter_pred`, which gets the number of the predicate. r0 is 1 where the record passes.
 */
import { type Condition, ProgramBuilder, R0, R1, R2, R6 } from '../../../bpf/builder.ts';
import type { KfuncDecl } from '../../../bpf/helpers/kfunc.ts';
import type { VerifiedProgram } from '../../../bpf/verifier/types.ts';
import { verifyProgram } from '../../../bpf/verifier/verifier.ts';
import type { TraceField } from '../trace-field.ts';
import type { FilterPredicate, FilterStep } from './predicate.ts';

export const TRACE_FILTER_PRED: KfuncDecl = {
  id: 96,
  name: 'trace_filter_pred',
  args: ['const'],
  result: 's32',
};

/** Bytes of the record that a filter's program may read: no context is larger than a sub-buffer of the ring. */
const CONTEXT_MAX = 4096;

export function compileFilter(steps: readonly FilterStep[]): VerifiedProgram {
  const size = Math.max(8, (contextRange(steps)[1] + 7) & ~7);
  return verifyProgram({
    name: 'trace_filter',
    type: 'tracepoint',
    insns: emitFilter(steps),
    maps: [],
    kfuncs: [TRACE_FILTER_PRED],
    ctx: {
      size,
      access: (off, bytes, write) => (!write && off >= 0 && off + bytes <= size ? 'scalar' : undefined),
    },
  });
}

/** Bytes of a record, from and to, that its filter reads at fixed offsets. */
export function contextRange(steps: readonly FilterStep[]): readonly [begin: number, end: number] {
  let [begin, end] = [CONTEXT_MAX, 0];
  for (const { predicate } of steps) {
    if (predicate.kind !== 'number' && predicate.kind !== 'function') continue;
    begin = Math.min(begin, predicate.field.offset);
    end = Math.max(end, predicate.field.offset + predicate.field.size);
  }
  return [Math.min(begin, end), Math.min(end, CONTEXT_MAX)];
}

function emitFilter(steps: readonly FilterStep[]) {
  const b = new ProgramBuilder();
  b.mov(R6, R1);
  for (const [i, step] of steps.entries()) {
    b.label(`step${i}`);
    const yes = `yes${i}`;
    const no = `no${i}`;
    const [ifYes, ifNo] = step.whenToBranch
      ? [stepLabel(step.target + 1, steps.length), stepLabel(i + 1, steps.length)]
      : [stepLabel(i + 1, steps.length), stepLabel(step.target + 1, steps.length)];
    emitPredicate(b, step.predicate, i, yes);
    b.label(no).jump(ifNo);
    b.label(yes).jump(ifYes);
  }
  b.label('pass').mov(R0, 1).exit();
  b.label('drop').mov(R0, 0).exit();
  return b.build();
}

function stepLabel(index: number, count: number): string {
  if (index === count) return 'pass';
  return index > count ? 'drop' : `step${index}`;
}

const UNSIGNED: Record<string, Condition> = {
  '==': '==',
  '!=': '!=',
  '<': '<',
  '<=': '<=',
  '>': '>',
  '>=': '>=',
  '&': '&',
};
const SIGNED: Record<string, Condition> = { ...UNSIGNED, '<': 's<', '<=': 's<=', '>': 's>', '>=': 's>=' };

/** Jumps to `yes` where the predicate holds, else goes on. */
function emitPredicate(b: ProgramBuilder, predicate: FilterPredicate, index: number, yes: string): void {
  switch (predicate.kind) {
    case 'never':
      return;
    case 'number': {
      const { field, op, isSigned } = predicate;
      const bits = field.size * 8;
      const value = isSigned ? BigInt.asIntN(bits, predicate.value) : BigInt.asUintN(bits, predicate.value);
      load(b, field, isSigned);
      b.lddw(R2, value);
      b.jcond((isSigned ? SIGNED : UNSIGNED)[op] as Condition, R1, R2, yes);
      return;
    }
    case 'function': {
      const outside = predicate.not ? yes : `no${index}`;
      load(b, predicate.field, false);
      b.lddw(R2, predicate.start).jcond('<', R1, R2, outside);
      b.lddw(R2, predicate.end).jcond('>=', R1, R2, outside);
      if (!predicate.not) b.jump(yes);
      return;
    }
    default:
      b.mov(R1, index).kcall(TRACE_FILTER_PRED.id).jcond('!=', R0, 0, yes);
  }
}

/** r1 = the field, extended to 64 bits. */
function load(b: ProgramBuilder, field: TraceField, isSigned: boolean): void {
  const { size } = field;
  if (isSigned && (size === 1 || size === 2 || size === 4)) b.ldsx(size, R1, R6, field.offset);
  else b.ldx(size as 1 | 2 | 4 | 8, R1, R6, field.offset);
}
