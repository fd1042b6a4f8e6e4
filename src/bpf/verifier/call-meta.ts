/** What the checks of a call's arguments hand on to the checks of the call. */
import type { KernelKfunc } from '../helpers/kfunc.ts';
import type { RecordField } from '../maps/map-spec.ts';
import type { HelperAccess } from './helper-memory.ts';
import type { Reg } from './reg.ts';
import type { DynptrSlot } from './state.ts';

/** What one call's arguments said (`struct bpf_call_arg_meta`). */
export interface CallMeta {
  map: number;
  mapUid: number;
  /** How the memory of the next size argument is used. */
  access: HelperAccess;
  /** Stack ranges that the helper fills. */
  raw: { reg: Reg; size: number }[];
  memSize: number;
  maxSize: bigint;
  /** Register to release; 0 for none. */
  releaseReg: number;
  refObjId: number;
  subprog: number;
  /** Where ptr_to_btf_id arguments are in `structs`. */
  structs: number;
  dynptrReg: number;
  percpuType: Reg | undefined;
  /** rbtree_add: the tree. */
  root: RecordField | undefined;
  kptr: { typeId: number; isLocal: boolean; kind: string; typeName: string } | undefined;
}

export const newMeta = (): CallMeta => ({
  map: -1,
  mapUid: 0,
  access: 'read',
  raw: [],
  memSize: 0,
  maxSize: 0n,
  releaseReg: 0,
  refObjId: 0,
  subprog: -1,
  structs: 0,
  dynptrReg: 0,
  percpuType: undefined,
  root: undefined,
  kptr: undefined,
});

/** The same of a kernel function (`struct bpf_kfunc_call_arg_meta`). */
export interface KfuncMeta {
  readonly kfunc: KernelKfunc;
  refObjId: number;
  releaseReg: number;
  iter: { frame: number; spi: number } | undefined;
  /** Last constant argument. */
  constant: bigint | undefined;
  subprog: number;
  dynptr: DynptrSlot | undefined;
  sliceSize: number;
  raw: { reg: Reg; size: number }[];
  /** Of an allocated object: its type in the program's BTF. */
  objectType: number;
  /** List or tree of the call, and the node it takes. */
  root: RecordField | undefined;
  given: Reg | undefined;
  /** bpf_refcount_acquire of what the program owns. */
  isOwned: boolean;
  map: number;
  mapUid: number;
}
