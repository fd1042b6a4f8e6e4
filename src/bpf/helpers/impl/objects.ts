/**
 * Objects that programs allocate (kernel/bpf/helpers.c: bpf_obj_new, kptrs, bpf_list_*, bpf_rbtree_*, kernel/bpf/cpumask.c). A list or a
 * tree holds its nodes in a JavaScript array in their order: only the thread that made them can use them.
 */
import { type Btf, sizeOf } from '../../btf/index.ts';
import { ERRNO } from '../../errors.ts';
import type { MapRecord } from '../../maps/map-spec.ts';
import { recordOf } from '../../object/map-record.ts';
import { type HelperContext, type HelperImpl, u32, u64, view } from './context.ts';
import type { AllocatedObject, HelperRuntime } from './runtime.ts';
import { freeTimer } from './timers.ts';

const FIELD_SIZE = 8;
/** Nodes by the address of their root, and the root by a node's address. */
interface Graphs {
  readonly members: Map<number, number[]>;
  readonly roots: Map<number, number>;
  /** The object that a node is part of. */
  readonly owners: Map<number, number>;
}
const graphs = new WeakMap<HelperRuntime, Graphs>();

function graphsOf(runtime: HelperRuntime): Graphs {
  let known = graphs.get(runtime);
  if (known === undefined) {
    known = { members: new Map(), roots: new Map(), owners: new Map() };
    graphs.set(runtime, known);
  }
  return known;
}

/** What freeing needs: also for maps, when no program runs. */
export interface FreeContext {
  readonly memory: WebAssembly.Memory;
  readonly runtime: HelperRuntime;
  readonly heap: HelperContext['heap'];
}

const records = new WeakMap<Btf, Map<number, MapRecord | undefined>>();

function recordOfType(btf: Btf, id: number): MapRecord | undefined {
  let known = records.get(btf);
  if (known === undefined) {
    known = new Map();
    records.set(btf, known);
  }
  if (!known.has(id)) known.set(id, recordOf(btf, id));
  return known.get(id);
}

function allocate(c: HelperContext, kind: AllocatedObject['kind'], size: number, record?: MapRecord): number {
  const stride = Math.ceil(size / FIELD_SIZE) * FIELD_SIZE;
  const total = kind === 'percpu' ? stride * c.ncpu : size;
  const address = c.heap.alloc(total);
  if (address === 0) return 0;
  c.runtime.objects.set(address, { kind, address, block: address, size: total, record, stride, refs: 1 });
  for (const field of record?.fields ?? []) {
    if (field.kind === 'list_node' || field.kind === 'rb_node') {
      graphsOf(c.runtime).owners.set(address + field.offset, address);
    }
  }
  return address;
}

/** bpf_obj_drop: frees with the last reference, and what the fields hold with it. */
export function drop(c: FreeContext, address: number): void {
  const object = c.runtime.objects.get(address >>> 0);
  if (object === undefined || object.kind === 'task' || --object.refs > 0) return;
  c.runtime.objects.delete(object.address);
  if (object.record !== undefined) {
    for (const { kind, offset } of object.record.fields) {
      if (kind === 'list_node' || kind === 'rb_node')
        graphsOf(c.runtime).owners.delete(object.address + offset);
    }
    freeFields(c, object.address, object.record);
  }
  c.heap.free(object.block, object.size);
}

/** bpf_obj_free_fields: what a value's special fields hold goes away with it. */
export function freeFields(c: FreeContext, value: number, record: MapRecord): void {
  const data = new DataView(c.memory.buffer);
  for (const { kind, offset } of record.fields) {
    const at = value + offset;
    switch (kind) {
      case 'timer':
      case 'wq':
        freeTimer(c.runtime, c.memory, at);
        break;
      case 'kptr_ref':
      case 'kptr_percpu': {
        const held = data.getUint32(at, true);
        data.setBigUint64(at, 0n, true);
        if (held !== 0) drop(c, held);
        break;
      }
      case 'list_head':
      case 'rb_root': {
        const { members, roots, owners } = graphsOf(c.runtime);
        const nodes = members.get(at) ?? [];
        members.delete(at);
        for (const node of nodes) {
          roots.delete(node);
          const owner = owners.get(node);
          if (owner !== undefined) drop(c, owner);
        }
        break;
      }
      default:
    }
  }
}

/** False, and the object is dropped, where the node is in a list or tree already. */
function link(
  c: HelperContext,
  root: number,
  node: number,
  at: (nodes: readonly number[]) => number,
): boolean {
  const { members, roots, owners } = graphsOf(c.runtime);
  if (roots.has(node)) {
    const owner = owners.get(node);
    if (owner !== undefined) drop(c, owner);
    return false;
  }
  const nodes = members.get(root) ?? [];
  members.set(root, nodes);
  // Claimed before a callback runs, which sees the list as it was.
  roots.set(node, root);
  nodes.splice(at(nodes), 0, node);
  return true;
}

function unlink(c: HelperContext, root: number, node: number | undefined): number {
  const { members, roots } = graphsOf(c.runtime);
  const nodes = members.get(root);
  const index = node === undefined ? -1 : (nodes?.indexOf(node) ?? -1);
  if (nodes === undefined || node === undefined || index < 0) return 0;
  nodes.splice(index, 1);
  roots.delete(node);
  return node;
}

const nodesOf = (c: HelperContext, root: number): readonly number[] =>
  graphsOf(c.runtime).members.get(root >>> 0) ?? [];

/** Where a new node comes to lie: to the right of those that it is not less than, as in a tree that is searched from its root. */
function position(nodes: readonly number[], isLess: (other: number) => boolean): number {
  let [low, high] = [0, nodes.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isLess(nodes[middle]!)) high = middle;
    else low = middle + 1;
  }
  return low;
}

function newObject(c: HelperContext, typeId: number, kind: 'object' | 'percpu'): number {
  const { btf } = c.program;
  if (btf === undefined || !btf.has(typeId)) return 0;
  return allocate(c, kind, Math.max(1, sizeOf(btf, typeId) ?? 0), recordOfType(btf, typeId));
}

function acquire(c: HelperContext, address: number): number {
  const object = c.runtime.objects.get(address >>> 0);
  if (object === undefined) return 0;
  object.refs++;
  return address >>> 0;
}

/** A copy of an object of all CPUs. */
function percpu(c: HelperContext, address: number, cpu: number): number {
  const object = c.runtime.objects.get(address >>> 0);
  if (cpu >= c.ncpu) return 0;
  // A variable of the kernel's: there is one for all.
  return object === undefined ? address >>> 0 : object.address + cpu * object.stride;
}

export const OBJECT_HELPERS: Readonly<Record<string, HelperImpl>> = {
  kptr_xchg(c, field: number, pointer: number) {
    const { i64 } = view(c);
    const old = Atomics.exchange(i64, (field >>> 0) / FIELD_SIZE, BigInt(pointer >>> 0));
    return Number(BigInt.asUintN(32, old)) | 0;
  },
  per_cpu_ptr: (c, address: number, cpu: bigint) => percpu(c, address, u32(cpu)),
  this_cpu_ptr: (c, address: number) => percpu(c, address, c.cpu),
};

export const OBJECT_KFUNCS: Readonly<Record<string, HelperImpl>> = {
  bpf_obj_new_impl: (c, typeId: number) => newObject(c, typeId, 'object'),
  bpf_percpu_obj_new_impl: (c, typeId: number) => newObject(c, typeId, 'percpu'),
  bpf_obj_drop_impl(c, address: number) {
    drop(c, address);
    return undefined;
  },
  bpf_percpu_obj_drop_impl(c, address: number) {
    drop(c, address);
    return undefined;
  },
  bpf_refcount_acquire_impl: acquire,
  bpf_list_push_front_impl: (c, root: number, node: number) =>
    link(c, root >>> 0, node >>> 0, () => 0) ? 0 : -ERRNO.EINVAL,
  bpf_list_push_back_impl: (c, root: number, node: number) =>
    link(c, root >>> 0, node >>> 0, (nodes) => nodes.length) ? 0 : -ERRNO.EINVAL,
  bpf_list_pop_front: (c, root: number) => unlink(c, root >>> 0, nodesOf(c, root)[0]),
  bpf_list_pop_back: (c, root: number) => unlink(c, root >>> 0, nodesOf(c, root).at(-1)),
  bpf_rbtree_add_impl(c, root: number, node: number, less: number) {
    const call = c.callbacks();
    const isLess = (other: number): boolean => call(less, node >>> 0, other) !== 0n;
    return link(c, root >>> 0, node >>> 0, (nodes) => position(nodes, isLess)) ? 0 : -ERRNO.EINVAL;
  },
  bpf_rbtree_remove: (c, root: number, node: number) => unlink(c, root >>> 0, node >>> 0),
  bpf_rbtree_first: (c, root: number) => nodesOf(c, root)[0] ?? 0,
  bpf_task_acquire: acquire,
  bpf_task_release: () => undefined,
};

const CPUMASK_SIZE = 8;

/** The bits of the mask that are CPUs, and all of them. */
const bits = (c: HelperContext, mask: number): bigint => view(c).data.getBigUint64(mask >>> 0, true);
const setBits = (c: HelperContext, mask: number, value: bigint): undefined => {
  view(c).data.setBigUint64(mask >>> 0, u64(value), true);
  return undefined;
};
const every = (c: HelperContext): bigint => (1n << BigInt(c.ncpu)) - 1n;
/** nr_cpu_ids where no bit is set. */
function first(c: HelperContext, value: bigint): number {
  for (let cpu = 0; cpu < c.ncpu; cpu++) if (((value >> BigInt(cpu)) & 1n) !== 0n) return cpu;
  return c.ncpu;
}
const isCpu = (c: HelperContext, cpu: bigint): boolean => u32(cpu) < c.ncpu;
const bit = (cpu: bigint): bigint => 1n << BigInt(u32(cpu));
const is = (yes: boolean): number => (yes ? 1 : 0);

export const CPUMASK_KFUNCS: Readonly<Record<string, HelperImpl>> = {
  bpf_cpumask_create: (c) => allocate(c, 'cpumask', CPUMASK_SIZE),
  bpf_cpumask_release(c, mask: number) {
    drop(c, mask);
    return undefined;
  },
  bpf_cpumask_acquire: acquire,
  bpf_cpumask_first: (c, mask: number) => first(c, bits(c, mask)),
  bpf_cpumask_first_zero: (c, mask: number) => first(c, ~bits(c, mask)),
  bpf_cpumask_first_and: (c, a: number, b: number) => first(c, bits(c, a) & bits(c, b)),
  bpf_cpumask_set_cpu: (c, cpu: bigint, mask: number) =>
    isCpu(c, cpu) ? setBits(c, mask, bits(c, mask) | bit(cpu)) : undefined,
  bpf_cpumask_clear_cpu: (c, cpu: bigint, mask: number) =>
    isCpu(c, cpu) ? setBits(c, mask, bits(c, mask) & ~bit(cpu)) : undefined,
  bpf_cpumask_test_cpu: (c, cpu: bigint, mask: number) =>
    is(isCpu(c, cpu) && (bits(c, mask) & bit(cpu)) !== 0n),
  bpf_cpumask_test_and_set_cpu(c, cpu: bigint, mask: number) {
    if (!isCpu(c, cpu)) return 0;
    const old = bits(c, mask);
    setBits(c, mask, old | bit(cpu));
    return is((old & bit(cpu)) !== 0n);
  },
  bpf_cpumask_test_and_clear_cpu(c, cpu: bigint, mask: number) {
    if (!isCpu(c, cpu)) return 0;
    const old = bits(c, mask);
    setBits(c, mask, old & ~bit(cpu));
    return is((old & bit(cpu)) !== 0n);
  },
  bpf_cpumask_setall: (c, mask: number) => setBits(c, mask, every(c)),
  bpf_cpumask_clear: (c, mask: number) => setBits(c, mask, 0n),
  bpf_cpumask_and(c, to: number, a: number, b: number) {
    setBits(c, to, bits(c, a) & bits(c, b));
    return is((bits(c, to) & every(c)) !== 0n);
  },
  bpf_cpumask_or: (c, to: number, a: number, b: number) => setBits(c, to, bits(c, a) | bits(c, b)),
  bpf_cpumask_xor: (c, to: number, a: number, b: number) => setBits(c, to, bits(c, a) ^ bits(c, b)),
  bpf_cpumask_equal: (c, a: number, b: number) => is(bits(c, a) === bits(c, b)),
  bpf_cpumask_intersects: (c, a: number, b: number) => is((bits(c, a) & bits(c, b)) !== 0n),
  bpf_cpumask_subset: (c, a: number, b: number) => is((bits(c, a) & ~bits(c, b)) === 0n),
  bpf_cpumask_empty: (c, mask: number) => is(bits(c, mask) === 0n),
  bpf_cpumask_full: (c, mask: number) => is((bits(c, mask) & every(c)) === every(c)),
  bpf_cpumask_copy: (c, to: number, from: number) => setBits(c, to, bits(c, from)),
  bpf_cpumask_any_distribute: (c, mask: number) => first(c, bits(c, mask)),
  bpf_cpumask_any_and_distribute: (c, a: number, b: number) => first(c, bits(c, a) & bits(c, b)),
  bpf_cpumask_weight: (c, mask: number) => (bits(c, mask) & every(c)).toString(2).replaceAll('0', '').length,
};
