import type { TraceField } from '../trace-field.ts';
import type { Regex } from './regex.ts';

export type FilterOp = '~' | '!=' | '==' | '<=' | '<' | '>=' | '>' | '&';

/** One comparison of a filter (`struct filter_pred`). `op` is what is asked; `not` turns the answer round. */
export type FilterPredicate =
  /** Never true: FILTER_PRED_FN_NOP, and comparisons that the kernel answers so. */
  | { readonly kind: 'never' }
  | {
      readonly kind: 'number';
      readonly field: TraceField;
      readonly op: FilterOp;
      readonly value: bigint;
      readonly isSigned: boolean;
    }
  /** An integer field that holds a CPU, against several CPUs. */
  | { readonly kind: 'number_cpus'; readonly field: TraceField; readonly op: FilterOp; readonly mask: bigint }
  /** A cpumask field against CPUs. */
  | { readonly kind: 'cpumask'; readonly field: TraceField; readonly op: FilterOp; readonly mask: bigint }
  | { readonly kind: 'cpumask_cpu'; readonly field: TraceField; readonly op: FilterOp; readonly cpu: bigint }
  /** The CPU of the hit. */
  | { readonly kind: 'cpu'; readonly op: FilterOp; readonly value: bigint }
  | { readonly kind: 'cpu_cpus'; readonly op: FilterOp; readonly mask: bigint }
  | {
      readonly kind: 'string';
      readonly field: TraceField;
      readonly regex: Regex;
      readonly not: boolean;
      readonly user: boolean;
    }
  /** An address within a function. */
  | {
      readonly kind: 'function';
      readonly field: TraceField;
      readonly start: bigint;
      readonly end: bigint;
      readonly not: boolean;
    };

/**
 * A step of a filter's program: after the predicate, where its answer is `whenToBranch`, go to the step behind `target`, else to the
 * next. Behind the last step is TRUE, then FALSE.
 */
export interface FilterStep {
  readonly predicate: FilterPredicate;
  target: number;
  whenToBranch: boolean;
}
