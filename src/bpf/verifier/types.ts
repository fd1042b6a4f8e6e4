import type { Btf } from '../btf/btf.ts';
import type { KfuncDecl } from '../helpers/kfunc.ts';
import type { Insn } from '../isa.ts';
import type { MapSpec } from '../maps/map-spec.ts';
import type { AttachType, ContextAccess, ProgType } from '../prog-types/index.ts';

export type { AttachType, ContextAccess, ProgType } from '../prog-types/index.ts';

/** A record of `bpf_func_info`: the function at `insn` has the FUNC type `typeId`. */
export interface FuncInfo {
  readonly insn: number;
  readonly typeId: number;
}

export interface LineInfo {
  readonly insn: number;
  readonly file: string;
  readonly line: number;
  readonly source: string;
  /** Its file or text is not among the strings of the BTF: such a program is refused. */
  readonly unnamed?: boolean;
}

export interface ProgramInput {
  readonly name: string;
  readonly type: ProgType;
  readonly insns: readonly Insn[];
  /** A map load's immediate is an index here (BPF_PSEUDO_MAP_IDX). */
  readonly maps: readonly MapSpec[];
  /** Default: the program type's own. */
  readonly ctx?: ContextAccess;
  readonly attachType?: AttachType;
  /** What a tracing or LSM program is attached to: a function, tracepoint or iterator target of `targetBtf`. */
  readonly attachTo?: string;
  /** The types of the kernel (or whatever is traced), and of the program. */
  readonly targetBtf?: Btf;
  readonly btf?: Btf;
  readonly funcInfo?: readonly FuncInfo[];
  readonly lineInfo?: readonly LineInfo[];
  /** BPF_F_SLEEPABLE. Default false; syscall programs always are. */
  readonly sleepable?: boolean;
  /** As for a user without capabilities: no leaked addresses, no loops, precautions against speculation. Default false. */
  readonly unprivileged?: boolean;
  /** Contents of maps that programs only read and that are frozen, by index: loads of them are constants. */
  readonly frozen?: ReadonlyMap<number, Uint8Array>;
  /** Addresses in the memory by name, of the target's variables that BPF_PSEUDO_BTF_ID loads. */
  readonly ksyms?: ReadonlyMap<string, bigint>;
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
  /** Loads of kernel symbols and of an arena's variables are loads of their addresses; arithmetic with pointers to an arena has 32 bits. */
  readonly insns: readonly Insn[];
  readonly maps: readonly MapSpec[];
  /** Byte offsets of the context that the program may read. */
  readonly ctxReads: ReadonlySet<number>;
  /** Declarations of the kfuncs that reachable code calls. */
  readonly kfuncsUsed: readonly KfuncDecl[];
  /** Names of the helpers that reachable code calls. Those that are not in `HELPERS` have no implementation: loading fails. */
  readonly helpersUsed: readonly string[];
  /** First instruction of the function that bpf_throw() ends in, if the program names one (`__exception_cb`). */
  readonly exceptionCallback?: number | undefined;
  /** Bytes of stack each frame may need: of the deepest call chain. */
  readonly stackDepth: number;
  /** First instruction of every function, in order; [0] is the program. */
  readonly subprogs: readonly number[];
  /** By instruction: false where no execution comes by (dead code). */
  readonly reachable: readonly boolean[];
  /** Instructions looked at (`verified_insns` of bpf_prog_info). */
  readonly verifiedInsns: number;
  /** By instruction: what kind of pointer a load or store uses. Loads of `ptr_` have to give 0 where the address is bad (PROBE_MEM). */
  readonly memoryKinds: ReadonlyMap<number, MemoryKind>;
  /** Where its loads and stores of kind `arena` go, and casts to user space lead. */
  readonly arena?: ProgramArena | undefined;
  /** What the verifier wrote. */
  readonly log: string;
}

/** The arena of a program. */
export interface ProgramArena {
  /** Its place in `maps`. */
  readonly map: number;
  /** Where it begins in user space (user_vm_start). */
  readonly userStart: bigint;
}

export type MemoryKind = 'ctx' | 'sock' | 'ptr_' | 'untrusted' | 'arena' | 'plain';
