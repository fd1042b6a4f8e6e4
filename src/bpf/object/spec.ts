/** What an object file asks for, as plain data: nothing here was checked against a machine. */
import type { Btf, BtfExt } from '../btf/index.ts';
import type { Insn } from '../isa.ts';
import type { MapSpec } from '../maps/map-spec.ts';
import type { AttachType, ProgType } from '../prog-types/index.ts';

/** Where a map comes from: declared by the user, or a section of variables. */
export type MapOrigin = 'user' | 'data' | 'rodata' | 'bss' | 'kconfig' | 'struct_ops';

/**
 * A map as the object declares it. `name` is what programs and users call it, for a section of variables the section's name
 * (`.rodata`); `keyTypeId` and `valueTypeId` are types of the object's BTF, for a section of variables the DATASEC.
 */
export interface ObjectMapSpec extends MapSpec {
  readonly flags: number;
  readonly mapExtra: bigint;
  /** Map-in-map: what an inner map is like. Its name ends with `.inner`. */
  readonly innerMap?: ObjectMapSpec;
  /** What BPF_MAP_CREATE gets: at most 15 characters, `object.rodata` for a section. */
  readonly kernelName: string;
  readonly pinning: 'none' | 'by_name';
  /** Static initialisers of a map-in-map or prog_array, names of maps or programs by index; programs by struct_ops member. */
  readonly slots: ReadonlyMap<number, string>;
  readonly origin: MapOrigin;
  /** Section and offset of its definition. */
  readonly section: string;
  readonly offset: number;
  /** Frozen for the user once it has its initial value: constants. */
  readonly frozen: boolean;
}

/** What an instruction was relocated to. Instructions count from 0 in `ProgramSpec.insns`. */
export type Relocation = { readonly insn: number } & (
  | { readonly kind: 'map'; readonly map: string }
  /** Address of a byte of a section of variables. */
  | { readonly kind: 'data'; readonly map: string; readonly offset: number }
  | { readonly kind: 'kconfig' | 'ksym' | 'kfunc'; readonly extern: string }
  | { readonly kind: 'call' | 'func'; readonly func: string }
);

/** A function within a linked program (struct bpf_func_info, by instruction). */
export interface ProgFuncInfo {
  /** Its first instruction. */
  readonly insn: number;
  readonly name: string;
  /** Its FUNC in the object's BTF; 0 without. */
  readonly typeId: number;
  /** A global function is verified by its types alone. */
  readonly global: boolean;
  /** Instructions. */
  readonly length: number;
  /** Where it stood in the object. */
  readonly section: string;
  readonly sectionOffset: number;
}

/** struct bpf_line_info, by instruction. */
export interface ProgLineInfo {
  readonly insn: number;
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** The line's text. */
  readonly source: string;
}

/** struct bpf_core_relo, by instruction. */
export interface ProgCoreRelo {
  readonly insn: number;
  readonly typeId: number;
  readonly accessString: string;
  readonly kind: number;
}

export interface ProgramSpec {
  readonly name: string;
  /** The section's name, without a leading `?`. */
  readonly section: string;
  /** Undefined where the section's name says nothing: it must be given at load. */
  readonly type: ProgType | undefined;
  readonly attachType: AttachType | undefined;
  /** `vfs_read` of `kprobe/vfs_read`. */
  readonly attachTo: string | undefined;
  /** The target must be found in the kernel's BTF. */
  readonly attachBtf: boolean;
  readonly sleepable: boolean;
  readonly xdpFrags: boolean;
  /** False for `SEC("?…")`: loaded only when asked for. */
  readonly autoload: boolean;
  /**
   * The main function, then every function it reaches in the order of first use, as libbpf links them. A map is
   * BPF_PSEUDO_MAP_IDX with its position in `ObjectSpec.maps`, a variable BPF_PSEUDO_MAP_IDX_VALUE; what an extern becomes is
   * known at load: the immediate is its position in `ObjectSpec.externs`.
   */
  readonly insns: readonly Insn[];
  readonly relocations: readonly Relocation[];
  /** Every function, in order; [0] is the main one. */
  readonly functions: readonly ProgFuncInfo[];
  readonly lineInfo: readonly ProgLineInfo[];
  readonly coreRelos: readonly ProgCoreRelo[];
}

export type ExternSpec = KconfigExtern | KsymExtern;

interface ExternBase {
  readonly name: string;
  /** May stay unresolved: it is 0 then. */
  readonly weak: boolean;
  /** Its VAR or FUNC in the object's BTF. */
  readonly btfId: number;
}

export interface KconfigExtern extends ExternBase {
  readonly kind: 'kconfig';
  readonly type: 'char' | 'bool' | 'int' | 'tristate' | 'char_array';
  readonly signed: boolean;
  /** Bytes, and where in the `.kconfig` map. */
  readonly size: number;
  readonly offset: number;
}

export interface KsymExtern extends ExternBase {
  readonly kind: 'ksym';
  /** A kernel function that is called, or whose address is taken. */
  readonly func: boolean;
  /** Its type in the object's BTF, modifiers and typedefs skipped; 0 (void) for `extern const void x __ksym`. */
  readonly typeId: number;
}

export interface ObjectSpec {
  /** Of the object: of its file usually, without folders and suffix. */
  readonly name: string;
  /** The text of section `license`, '' without. */
  readonly license: string;
  /** Section `version`. */
  readonly kernVersion: number | undefined;
  readonly maps: ReadonlyMap<string, ObjectMapSpec>;
  readonly programs: ReadonlyMap<string, ProgramSpec>;
  readonly externs: readonly ExternSpec[];
  /** With offsets and sizes of variables filled in. */
  readonly btf: Btf | undefined;
  readonly btfExt: BtfExt | undefined;
  /** What was left out, and why: sections with a meaning unknown here. */
  readonly notes: readonly string[];
}
