/** The current task: who runs the program (kernel/bpf/helpers.c, kernel/trace/bpf_trace.c). */
import { type Btf, resolveType } from '../../btf/index.ts';
import { ERRNO } from '../../errors.ts';
import { TaskStorage } from '../../maps/local-storage.ts';
import { fail, type HelperContext, type HelperImpl, mapOf, s32, u64, view } from './context.ts';

const TASK_COMM_LEN = 16;
/** Without types a task is this long. */
const PLAIN_TASK = 64;
const U32 = 32n;

function putText(c: HelperContext, at: number, size: number, text: string): void {
  const { u8 } = view(c);
  u8.fill(0, at, at + size);
  for (let i = 0; i < Math.min(size - 1, text.length); i++) u8[at + i] = text.charCodeAt(i) & 0xff;
}

/** Byte offset of a member, also within anonymous ones; undefined where there is none. */
function offsetOf(btf: Btf, struct: number, name: string): number | undefined {
  for (const member of btf.members(struct)) {
    if (member.name === name) return member.bitOffset >> 3;
    if (member.name !== '') continue;
    const id = resolveType(btf, member.type);
    const kind = btf.kindName(id);
    if (kind !== 'STRUCT' && kind !== 'UNION') continue;
    const inner = offsetOf(btf, id, name);
    if (inner !== undefined) return (member.bitOffset >> 3) + inner;
  }
  return undefined;
}

/** Address of the task_struct of a CPU: as the target's types have it, with the fields that there are in user space. */
export function taskAddress(c: HelperContext, cpu = c.cpu): number {
  const { runtime, heap } = c;
  const btf = c.program.targetBtf;
  const struct = btf?.byName('task_struct', 'STRUCT');
  const key = struct === undefined ? 0 : btf;
  let tasks = runtime.tasks.get(key);
  if (tasks === undefined) {
    tasks = [];
    runtime.tasks.set(key, tasks);
  }
  const known = tasks[cpu];
  if (known !== undefined) return known;
  const type = struct === undefined ? undefined : btf!.type(struct);
  const size = type?.kind === 'STRUCT' ? type.size : PLAIN_TASK;
  const allocate = (thread: number | undefined): number => {
    const address = heap.alloc(size);
    if (address === 0 || thread === undefined) return address;
    runtime.objects.set(address, {
      kind: 'task',
      address,
      block: address,
      size,
      stride: 0,
      cpu: thread,
      refs: 1,
    });
    return address;
  };
  const address = allocate(cpu);
  if (address === 0) return 0;
  tasks[cpu] = address;
  if (struct === undefined || btf === undefined) return address;
  const put = (task: number, name: string, bytes: 4 | 8, value: number): void => {
    const offset = offsetOf(btf, struct, name);
    if (offset === undefined || offset + bytes > size) return;
    const { data } = view(c);
    if (bytes === 4) data.setInt32(task + offset, value, true);
    else data.setBigUint64(task + offset, BigInt(value), true);
  };
  const name = offsetOf(btf, struct, 'comm');
  if (name !== undefined) putText(c, address + name, TASK_COMM_LEN, runtime.comm);
  put(address, 'pid', 4, runtime.pid);
  put(address, 'tgid', 4, runtime.tgid);
  put(address, 'group_leader', 8, address);
  const parent = allocate(undefined);
  if (parent === 0) return address;
  put(parent, 'pid', 4, runtime.ppid);
  put(parent, 'tgid', 4, runtime.ppid);
  put(parent, 'group_leader', 8, parent);
  put(parent, 'real_parent', 8, parent);
  put(parent, 'parent', 8, parent);
  put(address, 'real_parent', 8, parent);
  put(address, 'parent', 8, parent);
  return address;
}

/** The thread of a task's address; a small number is a thread's and one more. -1 for none. */
function threadOf(c: HelperContext, task: number): number {
  const address = task >>> 0;
  const known = c.runtime.objects.get(address);
  if (known?.kind === 'task') return known.cpu ?? -1;
  return address <= c.ncpu ? address - 1 : -1;
}

const NO_CGROUP = (): bigint => fail('EAGAIN');

export const TASK_HELPERS: Readonly<Record<string, HelperImpl>> = {
  get_current_pid_tgid: ({ runtime }) => (BigInt(runtime.tgid >>> 0) << U32) | BigInt(runtime.pid >>> 0),
  get_current_uid_gid: ({ runtime }) => (BigInt(runtime.gid >>> 0) << U32) | BigInt(runtime.uid >>> 0),
  /** strscpy_pad */
  get_current_comm(c, buffer: number, size: number) {
    putText(c, buffer >>> 0, size >>> 0, c.runtime.comm);
    return 0n;
  },
  get_current_task: (c) => BigInt(taskAddress(c)),
  get_current_task_btf: (c) => taskAddress(c),
  get_ns_current_pid_tgid(c, dev: bigint, ino: bigint, result: number, size: number) {
    const { data, u8 } = view(c);
    const at = result >>> 0;
    const { runtime } = c;
    const namespace = runtime.options.task?.pidNamespace;
    const matches = namespace !== undefined && namespace.dev === u64(dev) && namespace.ino === u64(ino);
    if (size !== 8 || !matches) {
      u8.fill(0, at, at + (size >>> 0));
      return fail('EINVAL');
    }
    data.setUint32(at, runtime.pid, true);
    data.setUint32(at + 4, runtime.tgid, true);
    return 0n;
  },
  send_signal: ({ runtime }, signal: bigint) => send(runtime, s32(signal), false),
  send_signal_thread: ({ runtime }, signal: bigint) => send(runtime, s32(signal), true),
  // One control group, the root: nothing is below it, and no descriptor of one can be put into a map.
  get_current_cgroup_id: () => 1n,
  get_current_ancestor_cgroup_id: (_c, level: bigint) => (s32(level) === 0 ? 1n : 0n),
  get_cgroup_classid: () => 0n,
  current_task_under_cgroup: (c, map: number, index: bigint) =>
    BigInt.asUintN(32, index) >= BigInt(mapOf(c, map).spec.maxEntries) ? fail('E2BIG') : NO_CGROUP(),
  task_storage_get(c, map: number, task: number, initial: number, flags: bigint) {
    const storage = mapOf(c, map);
    const thread = threadOf(c, task);
    if (!(storage instanceof TaskStorage) || thread < 0 || (u64(flags) & ~1n) !== 0n) return 0;
    return storage.get(thread, initial >>> 0, Number(flags));
  },
  task_storage_delete(c, map: number, task: number) {
    const storage = mapOf(c, map);
    const thread = threadOf(c, task);
    if (!(storage instanceof TaskStorage) || task === 0) return fail('EINVAL');
    return BigInt(thread < 0 ? -ERRNO.ENOENT : storage.remove(thread));
  },
};

const MAX_SIGNAL = 64;

function send(runtime: HelperContext['runtime'], signal: number, thread: boolean): bigint {
  if (signal < 0 || signal > MAX_SIGNAL) return fail('EINVAL');
  runtime.tell({ kind: 'signal', signal, thread });
  return 0n;
}

/** What bpf_iter_task is on the stack: the threads that are still to come. */
const ITER = { next: 0, end: 4, size: 24 } as const;
const BPF_TASK_ITER_ALL_PROCS = 0;
const BPF_TASK_ITER_PROC_THREADS = 2;

/** Tasks are the machine's threads, all of one process (kernel/bpf/task_iter.c, kernel/bpf/helpers.c). */
export const TASK_KFUNCS: Readonly<Record<string, HelperImpl>> = {
  bpf_iter_task_new(c, it: number, task: number, flags: bigint) {
    const { data, u8 } = view(c);
    const at = it >>> 0;
    u8.fill(0, at, at + ITER.size);
    const which = Number(BigInt.asUintN(32, flags));
    if (which > BPF_TASK_ITER_PROC_THREADS) return -ERRNO.EINVAL;
    if (which === BPF_TASK_ITER_PROC_THREADS && task === 0) return -ERRNO.EINVAL;
    data.setUint32(at + ITER.end, which === BPF_TASK_ITER_ALL_PROCS ? 1 : c.ncpu, true);
    return 0;
  },
  bpf_iter_task_next(c, it: number) {
    const at = it >>> 0;
    const { data } = view(c);
    const next = data.getUint32(at + ITER.next, true);
    if (next >= data.getUint32(at + ITER.end, true)) return 0;
    data.setUint32(at + ITER.next, next + 1, true);
    return taskAddress(c, next);
  },
  bpf_iter_task_destroy: () => undefined,
  /** There is no list of mappings: as for a task of the kernel, which has none. */
  bpf_iter_task_vma_new(c, it: number) {
    view(c).data.setBigUint64(it >>> 0, 0n, true);
    return -ERRNO.ENOENT;
  },
  bpf_iter_task_vma_next: () => 0,
  bpf_iter_task_vma_destroy: () => undefined,
  bpf_task_from_pid: (c, pid: bigint) => (s32(pid) === c.runtime.pid ? taskAddress(c) : 0),
};
