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
  emitSteps(b, steps, {
    prefix: '',
    pass: 'pass',
    drop: 'drop',
    predicate(predicate, index, yes, no) {
      switch (predicate.kind) {
        case 'never':
          return;
        case 'number':
        case 'function':
          load(b, predicate.field, predicate.kind === 'number' && predicate.isSigned);
          emitComparison(b, predicate, yes, no);
          return;
        default:
          b.mov(R1, index).kcall(TRACE_FILTER_PRED.id).jcond('!=', R0, 0, yes);
      }
    },
  });
  b.label('pass').mov(R0, 1).exit();
  b.label('drop').mov(R0, 0).exit();
  return b.build();
}

/** How the steps of a filter become part of a program. */
export interface StepEmitter {
  /** In front of the labels that are made. */
  readonly prefix: string;
  /** Labels: where to go with a record that passes, and with one that does not. */
  readonly pass: string;
  readonly drop: string;
  /** Jumps to `yes` where the predicate holds; goes on, or jumps to `no`, where it does not. */
  predicate(predicate: FilterPredicate, index: number, yes: string, no: string): void;
}

/** Every way through the steps ends with a jump to `pass` or `drop`. */
export function emitSteps(b: ProgramBuilder, steps: readonly FilterStep[], emitter: StepEmitter): void {
  const { prefix, pass, drop } = emitter;
  const labelOf = (index: number): string => {
    if (index === steps.length) return pass;
    return index > steps.length ? drop : `${prefix}step${index}`;
  };
  for (const [i, { predicate, target, whenToBranch }] of steps.entries()) {
    const [yes, no] = [`${prefix}yes${i}`, `${prefix}no${i}`];
    b.label(`${prefix}step${i}`);
    emitter.predicate(predicate, i, yes, no);
    b.label(no).jump(labelOf(whenToBranch ? i + 1 : target + 1));
    b.label(yes).jump(labelOf(whenToBranch ? target + 1 : i + 1));
  }
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

/** Predicates that compare a number. */
export type NumberPredicate = Extract<FilterPredicate, { kind: 'number' | 'function' }>;

/** With the field, extended to 64 bits, in r1: as StepEmitter.predicate(). */
export function emitComparison(b: ProgramBuilder, predicate: NumberPredicate, yes: string, no: string): void {
  if (predicate.kind === 'function') {
    const outside = predicate.not ? yes : no;
    b.lddw(R2, predicate.start).jcond('<', R1, R2, outside);
    b.lddw(R2, predicate.end).jcond('>=', R1, R2, outside);
    if (!predicate.not) b.jump(yes);
    return;
  }
  const { field, op, isSigned } = predicate;
  const bits = field.size * 8;
  const value = isSigned ? BigInt.asIntN(bits, predicate.value) : BigInt.asUintN(bits, predicate.value);
  b.lddw(R2, value).jcond((isSigned ? SIGNED : UNSIGNED)[op] as Condition, R1, R2, yes);
}

/** r1 = the field, extended to 64 bits. */
function load(b: ProgramBuilder, field: TraceField, isSigned: boolean): void {
  const { size } = field;
  if (isSigned && (size === 1 || size === 2 || size === 4)) b.ldsx(size, R1, R6, field.offset);
  else b.ldx(size as 1 | 2 | 4 | 8, R1, R6, field.offset);
}
