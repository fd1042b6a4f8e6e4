/** The functions of a program, as the verifier keeps them (struct bpf_subprog_info), and what BTF says of global ones. */
import type { Rejection } from './error.ts';

/** struct bpf_subprog_info */
export interface Subprog {
  /** First instruction, and the one behind the last. */
  readonly start: number;
  readonly end: number;
  /** Bytes of stack used so far. */
  stackDepth: number;
  /** Where the stack of bpf_fastcall spills starts, as an offset; `fastcall.ts`. */
  fastcallOff: number;
  keepsFastcallStack: boolean;
}

/** What a global function takes, as BTF says it (struct bpf_subprog_arg_info). */
export type GlobalArg =
  | { readonly kind: 'scalar' }
  | { readonly kind: 'ctx' }
  | { readonly kind: 'mem'; readonly size: number; readonly nullable: boolean }
  | { readonly kind: 'dynptr' }
  | { readonly kind: 'arena' }
  | { readonly kind: 'btf'; readonly struct: string; readonly nullable: boolean };

export interface GlobalFunc {
  readonly name: string;
  readonly args: readonly GlobalArg[];
  /** Why it cannot be called nor checked. */
  readonly refused?: Rejection;
}
