import type { KfuncDecl } from '../helpers/kfunc.ts';
import type { Insn } from '../isa.ts';
import type { MapSpec } from '../maps/map-layout.ts';

/** enum bpf_prog_type, in lower case without its prefix. */
export type ProgType = 'kprobe' | 'tracepoint' | 'raw_tracepoint' | 'perf_event' | 'socket_filter';

/**
 * Which context fields a program type may use (`is_valid_access` of its `struct bpf_verifier_ops`): `access` answers for
 * `size` bytes at `off`; undefined refuses.
 */
export interface ContextAccess {
  /** Bytes; accesses lie within. */
  readonly size: number;
  access(off: number, size: number, write: boolean): 'scalar' | undefined;
}

export interface ProgramInput {
  readonly name: string;
  readonly type: ProgType;
  readonly insns: readonly Insn[];
  /** A map load's immediate is an index here (BPF_PSEUDO_MAP_IDX). */
  readonly maps: readonly MapSpec[];
  readonly ctx: ContextAccess;
  /** Kernel functions that may be called. */
  readonly kfuncs?: readonly KfuncDecl[];
  /** Default 'GPL'. */
  readonly license?: string;
  /** Accept reads of stack that was never written, as the kernel does for root. Default false: refuse them. */
  readonly allowUninitStack?: boolean;
  /** Instructions to look at before giving up with E2BIG. Default 1,000,000, as in the kernel. */
  readonly maxInsns?: number;
  /** BPF_F_STRICT_ALIGNMENT: refuse unaligned loads and stores. Default false. */
  readonly strictAlignment?: boolean;
  /** 0: nothing but errors (and what leads to them), 1: instructions, 2: state after each. Default 0. */
  readonly logLevel?: 0 | 1 | 2;
}

/** A program proven safe. Plain data but for the set. */
export interface VerifiedProgram {
  readonly name: string;
  readonly type: ProgType;
  readonly insns: readonly Insn[];
  readonly maps: readonly MapSpec[];
  /** Byte offsets of the context that the program may read. */
  readonly ctxReads: ReadonlySet<number>;
  /** Declarations of the kfuncs that reachable code calls. */
  readonly kfuncsUsed: readonly KfuncDecl[];
  /** Names of the helpers that reachable code calls, as in `HELPERS`. */
  readonly helpersUsed: readonly string[];
  /** Bytes of stack each frame may need: of the deepest call chain. */
  readonly stackDepth: number;
  /** First instruction of every function, in order; [0] is the program. */
  readonly subprogs: readonly number[];
  /** By instruction: false where no execution comes by (dead code). */
  readonly reachable: readonly boolean[];
  /** What the verifier wrote. */
  readonly log: string;
}
