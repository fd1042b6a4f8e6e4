import type { TraceField } from '../trace-field.ts';

/**
 * A fetch argument is a list of instructions (enum fetch_op, kernel/trace/trace_probe.h): one that loads a value, any number
 * that follow pointers, one that stores into the record, a bit field's shift, an array's loop, the end. They are data: whoever
 * runs them (fetch.ts here, a program in the traced process) gives them the same meaning.
 */
export type FetchOp =
  | 'nop'
  /** Load: the register `name`. */
  | 'reg'
  /** Load: word `param` of the stack. */
  | 'stack'
  | 'stackp'
  | 'retval'
  /** Load: `immediate`. */
  | 'imm'
  | 'comm'
  /** Load: argument `param`, from 0. */
  | 'arg'
  /** Load: the string `data` (a byte string). */
  | 'data'
  /** Load: what argument `param` was at entry, at a return probe. */
  | 'edata'
  /** Load: the property `path` of argument `param` (-1: of the return value), a JavaScript value. */
  | 'prop'
  /** Load: the field `field` of the attached event's record. */
  | 'tp_arg'
  /** Follow: the word at value + `offset`. */
  | 'deref'
  | 'uderef'
  /** Store `size` bytes of the value. */
  | 'st_raw'
  /** Store `size` bytes of memory at value + `offset`. */
  | 'st_mem'
  | 'st_umem'
  | 'st_string'
  | 'st_ustring'
  | 'st_symstr'
  /** Shift what was stored, as a number of `size` bytes, left by `lshift`, then right by `rshift`. */
  | 'mod_bf'
  /** Repeat the store `param` times. */
  | 'lp_array'
  /** The name (`data`) of the symbol whose address the next instruction loads. */
  | 'symbol'
  | 'end';

export interface FetchInsn {
  op: FetchOp;
  param: number;
  offset: bigint;
  size: number;
  immediate: bigint;
  lshift: number;
  rshift: number;
  name: string;
  data: string;
  path: readonly string[];
  field: TraceField | undefined;
}

/** One load, twelve dereferences, store, modify, end. */
export const FETCH_INSN_MAX = 16;

/** An instruction with nothing but its operation. */
export function fetchInsn(op: FetchOp): FetchInsn {
  return {
    op,
    param: 0,
    offset: 0n,
    size: 0,
    immediate: 0n,
    lshift: 0,
    rshift: 0,
    name: '',
    data: '',
    path: [],
    field: undefined,
  };
}

/** What every list ends with. */
export function endFetch(): FetchInsn {
  return fetchInsn('end');
}

/** The list that is being built; its last entry is the end from the start. */
export class FetchCode {
  readonly insns: readonly FetchInsn[] = Array.from({ length: FETCH_INSN_MAX }, (_, i) =>
    fetchInsn(i === FETCH_INSN_MAX - 1 ? 'end' : 'nop'),
  );
  /** The instruction that was written last. */
  at = 0;

  get current(): FetchInsn {
    return this.insns[this.at] as FetchInsn;
  }

  /** Goes on to the next instruction; false where there is none left. */
  next(): boolean {
    if (this.insns[this.at + 1]?.op !== 'nop') return false;
    this.at++;
    return true;
  }

  /** The finished list. */
  finish(): readonly FetchInsn[] {
    return [...this.insns.slice(0, this.at + 1), fetchInsn('end')];
  }
}
