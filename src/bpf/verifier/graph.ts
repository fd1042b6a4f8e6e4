/** Allocated objects, linked lists and trees of them (bpf_obj_new, bpf_list_*, bpf_rbtree_* of kernel/bpf/verifier.c). */
import type { RecordField } from '../maps/map-spec.ts';
import { btfIsScalarStruct } from './btf-access.ts';
import { sizeOf } from './btf-types.ts';
import type { KfuncMeta } from './call-meta.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { fieldTypeName } from './field-names.ts';
import { fieldOf, lockKey, recordOf } from './locks.ts';
import { dropReference } from './refs.ts';
import { pointer, type Reg } from './reg.ts';
import { F_ALLOC, F_NON_OWN, F_PERCPU, F_RCU, F_TRUSTED, F_UNTRUSTED } from './reg-type.ts';
import { mapRegs } from './state.ts';

const KINDS: ReadonlySet<string> = new Set([
  'alloc',
  'alloc_percpu',
  'refcounted',
  'rb_root',
  'rb_node',
  'list_head',
  'list_node',
]);
export const isGraphArg = (kind: string): boolean => KINDS.has(kind);

/** BPF_GLOBAL_PERCPU_MA_MAX_SIZE */
const MAX_PERCPU_SIZE = 512;

/** type_is_ptr_alloc_obj: flags that say which reference it is aside. */
const isAllocated = (reg: Reg): boolean =>
  reg.type === 'ptr_' && (reg.flags & F_ALLOC) !== 0 && (reg.flags & F_UNTRUSTED) === 0 && !reg.nullable;
/** PTR_TO_BTF_ID | MEM_ALLOC, and no more. */
const isOwned = (reg: Reg): boolean => isAllocated(reg) && (reg.flags & ~(F_ALLOC | F_TRUSTED)) === 0;

export function checkGraphArg(env: Env, meta: KfuncMeta, n: number, kind: string, reg: Reg): void {
  switch (kind) {
    case 'alloc':
    case 'alloc_percpu': {
      const isPercpu = isAllocated(reg) && (reg.flags & F_PERCPU) !== 0;
      if (!isOwned(reg) && !isPercpu) reject('EINVAL', `arg#${n} expected pointer to allocated object`);
      if (isPercpu !== (kind === 'alloc_percpu')) {
        reject('EINVAL', `arg#${n} expected for bpf_${isPercpu ? 'percpu_' : ''}obj_drop_impl()`);
      }
      if (reg.refObjId === 0) reject('EINVAL', 'allocated object must be referenced');
      return;
    }
    case 'refcounted':
      if (!isAllocated(reg)) reject('EINVAL', `arg#${n} is neither owning or non-owning ref`);
      if (recordOf(env, reg)?.fields.some((field) => field.kind === 'refcount') !== true)
        reject('EINVAL', `arg#${n} doesn't point to a type with bpf_refcount field`);
      meta.isOwned = (reg.flags & F_NON_OWN) === 0;
      meta.objectType = reg.btfId;
      return;
    case 'rb_root':
    case 'list_head':
      checkRoot(env, meta, n, kind, reg);
      return;
    default:
      checkNode(env, meta, n, kind as 'rb_node' | 'list_node', reg);
  }
}

function constantOffset(reg: Reg, n: number, kind: string): number {
  const name = fieldTypeName(kind);
  if (!reg.isConst) {
    reject('EINVAL', `R${n + 1} doesn't have constant offset. ${name} has to be at the constant offset`);
  }
  return reg.off + Number(reg.smin);
}

/** __process_kf_arg_ptr_to_graph_root */
function checkRoot(env: Env, meta: KfuncMeta, n: number, kind: 'rb_root' | 'list_head', reg: Reg): void {
  if (reg.type !== 'map_value' && !isOwned(reg))
    reject('EINVAL', `arg#${n} expected pointer to map value or allocated object`);
  if (reg.type !== 'map_value' && reg.refObjId === 0) reject('EINVAL', 'allocated object must be referenced');
  const off = constantOffset(reg, n, kind);
  const record = recordOf(env, reg);
  const field = record?.fields.find((one) => one.kind === kind && one.offset === off);
  const name = fieldTypeName(kind);
  if (field === undefined) reject('EINVAL', `${name} not found at offset=${off}`);
  const { lock } = env.state;
  if (lock === undefined || lock.key !== lockKey(reg) || lock.id !== reg.id) {
    const at = fieldOf(env, reg, ['spin_lock'])?.offset ?? -1;
    reject('EINVAL', `bpf_spin_lock at off=${at} must be held for ${name}`);
  }
  meta.root = field;
}

/** __process_kf_arg_ptr_to_graph_node */
function checkNode(env: Env, meta: KfuncMeta, n: number, kind: 'rb_node' | 'list_node', reg: Reg): void {
  if (meta.kfunc.name === 'bpf_rbtree_remove') {
    if ((reg.flags & F_NON_OWN) === 0 || reg.refObjId !== 0)
      reject('EINVAL', 'rbtree_remove node input must be non-owning ref');
    if (env.frame.callbackOf.startsWith('rbtree')) reject('EINVAL', 'rbtree_remove not allowed in rbtree cb');
  } else {
    if (!isOwned(reg)) reject('EINVAL', `arg#${n} expected pointer to allocated object`);
    if (reg.refObjId === 0) reject('EINVAL', 'allocated object must be referenced');
  }
  const off = constantOffset(reg, n, kind);
  const name = fieldTypeName(kind);
  const node = recordOf(env, reg)?.fields.find((one) => one.kind === kind && one.offset === off);
  if (node === undefined) reject('EINVAL', `${name} not found at offset=${off}`);
  const root = meta.root as RecordField;
  const { btf } = reg.btf!;
  const wanted = btf.name(root.typeId ?? 0);
  if (root.typeId !== reg.btfId) {
    reject(
      'EINVAL',
      `operation on ${fieldTypeName(root.kind)} expects arg#1 ${name} at offset=${root.nodeOffset} in struct ${wanted}, but arg is at offset=${off} in struct ${btf.name(reg.btfId)}`,
    );
  }
  if (off !== root.nodeOffset) {
    reject(
      'EINVAL',
      `arg#1 offset=${off}, but expected ${name} at offset=${root.nodeOffset} in struct ${wanted}`,
    );
  }
  if (meta.kfunc.flags.includes('release') || !meta.kfunc.name.includes('remove')) meta.given = reg;
}

/** What a list or tree took: its pointers stay usable as long as the lock is held (ref_convert_owning_non_owning). */
export function giveToGraph(env: Env, meta: KfuncMeta): void {
  const reg = meta.given;
  if (reg === undefined) return;
  const isCounted = recordOf(env, reg)?.fields.some(({ kind }) => kind === 'refcount') === true;
  const id = reg.refObjId;
  mapRegs(env.state, (one) => {
    if (one.refObjId !== id) return one;
    const copy = one.copy();
    copy.refObjId = 0;
    copy.flags = (copy.flags | F_NON_OWN | (isCounted ? F_RCU : 0)) & ~F_TRUSTED;
    return copy;
  });
  if (!dropReference(env.state, id))
    reject('EINVAL', `kfunc ${meta.kfunc.name} reference has not been acquired before`);
}

/** A node of the graph that a root contains, borrowed or owned. */
export function graphNode(env: Env, root: RecordField, isBorrowed: boolean): Reg {
  const reg = pointer('ptr_');
  reg.btf = env.localBtf;
  reg.btfId = root.typeId ?? 0;
  reg.off = root.nodeOffset ?? 0;
  reg.flags = F_ALLOC;
  if (isBorrowed) {
    reg.flags |= F_NON_OWN;
    const record = env.localRecord(reg.btfId);
    if (record?.fields.some(({ kind }) => kind === 'refcount') === true) reg.flags |= F_RCU;
  }
  return reg;
}

export function graphResult(env: Env, meta: KfuncMeta): Reg {
  const { name } = meta.kfunc;
  if (meta.root !== undefined) return graphNode(env, meta.root, name === 'bpf_rbtree_first');
  const { localBtf } = env;
  if (localBtf === undefined) reject('EINVAL', 'bpf_obj_new/bpf_percpu_obj_new requires prog BTF');
  const reg = pointer('ptr_');
  reg.btf = localBtf;
  reg.flags = F_ALLOC;
  if (name === 'bpf_refcount_acquire_impl') {
    reg.btfId = meta.objectType;
    return reg;
  }
  const value = meta.constant ?? 0n;
  if (value > 0xffff_ffffn) reject('EINVAL', 'local type ID argument must be in range [0, U32_MAX]');
  const id = Number(value);
  const { btf } = localBtf;
  if (!btf.has(id) || btf.kindName(id) !== 'STRUCT')
    reject('EINVAL', 'bpf_obj_new/bpf_percpu_obj_new type ID argument must be of a struct');
  reg.btfId = id;
  if (name === 'bpf_percpu_obj_new_impl') {
    const size = sizeOf(btf, id);
    if (size > MAX_PERCPU_SIZE) {
      reject('EINVAL', `bpf_percpu_obj_new type size (${size}) is greater than ${MAX_PERCPU_SIZE}`);
    }
    if (!btfIsScalarStruct(btf, id))
      reject('EINVAL', 'bpf_percpu_obj_new type ID argument must be of a struct of scalars');
    if (env.localRecord(id) !== undefined)
      reject('EINVAL', 'bpf_percpu_obj_new type ID argument must not contain special fields');
    reg.flags |= F_PERCPU;
  }
  return reg;
}
