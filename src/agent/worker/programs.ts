/** Instantiates a program for this worker's CPU. JavaScript values do not exist here: kfuncs answer 0 or an empty string. */

import { type MemoryLayout, openMap, percpuBlock } from '../../bpf/index.ts';
import { JS_KFUNCS } from '../../kernel/trace/js-kfuncs.ts';
import type { ProgramImage } from '../protocol.ts';

export function instantiate(
  image: ProgramImage,
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  layout: MemoryLayout,
  cpu: number,
): (ctx: number) => unknown {
  const imports: Record<string, Record<string, WebAssembly.ImportValue>> = {
    env: {
      memory,
      cpu: new WebAssembly.Global({ value: 'i32', mutable: false }, cpu),
      programs: new WebAssembly.Table({ element: 'anyfunc', initial: 0 }),
    },
    kfunc: kfuncs(memory, layout, cpu),
    helper: helpers(memory, layout, cpu),
  };
  for (const { module: space, name } of WebAssembly.Module.imports(module)) {
    if (imports[space]?.[name] === undefined)
      throw new Error(`program ${image.index} imports ${space}.${name}`);
  }
  const { exports } = new WebAssembly.Instance(module, imports);
  return exports['run'] as (ctx: number) => unknown;
}

function kfuncs(memory: WebAssembly.Memory, layout: MemoryLayout, cpu: number): Record<string, () => number> {
  const bytes = new Uint8Array(memory.buffer);
  const { resultSlot } = percpuBlock(layout, cpu);
  const functions: Record<string, (...args: number[]) => number> = {};
  for (const decl of Object.values(JS_KFUNCS)) {
    const writes = decl.args.indexOf('mem_out' as never);
    // a u64 takes two i32, so the position of later arguments moves
    const at = decl.args.slice(0, Math.max(0, writes)).reduce((sum, arg) => sum + (arg === 'u64' ? 2 : 1), 0);
    functions[decl.name] = (...args: number[]): number => {
      if (writes >= 0) bytes.fill(0, args[at], (args[at] ?? 0) + (args[at + 1] ?? 0));
      if (decl.result === 'slot64') bytes.fill(0, resultSlot, resultSlot + 8);
      return 0;
    };
  }
  return functions;
}

const EFAULT = 14;

/** Helpers that the JIT does not inline. Addresses and sizes are proven by the verifier. */
function helpers(
  memory: WebAssembly.Memory,
  layout: MemoryLayout,
  cpu: number,
): Record<string, (...args: never[]) => number | bigint | undefined> {
  const map = (index: number) => openMap(memory, layout, index);
  const bytes = new Uint8Array(memory.buffer);
  const view = new DataView(memory.buffer);
  // The program adds the clock base, which the main thread's agent set for its own time origin.
  const now = (): number => Number(process.hrtime.bigint() - view.getBigInt64(layout.clockBase, true));
  const ids = BigInt(process.pid) << 32n;
  const owner = (BigInt(process.getgid?.() ?? 0) << 32n) | BigInt(process.getuid?.() ?? 0);
  const comm = Buffer.from(`${process.title.split(' ')[0]?.split('/').pop() || 'node'}`).subarray(0, 15);
  const made = {
    map_lookup_elem: (index: number, key: number) => map(index).lookupElem(key, cpu),
    map_update_elem: (index: number, key: number, value: number, flags: bigint) =>
      BigInt(map(index).updateElem(key, value, Number(flags), cpu)),
    map_delete_elem: (index: number, key: number) => BigInt(map(index).deleteElem(key, cpu)),
    ktime_get_ns: now,
    ktime_get_boot_ns: now,
    get_prandom_u32: () => (Math.random() * 2 ** 32) | 0,
    get_current_pid_tgid: () => ids | BigInt(process.pid),
    get_current_uid_gid: () => owner,
    get_current_comm: (dst: number, size: number) => {
      bytes.fill(0, dst, dst + size);
      bytes.set(comm.subarray(0, Math.max(0, size - 1)), dst);
      return 0n;
    },
    probe_read_kernel: (dst: number, size: number) => {
      bytes.fill(0, dst, dst + size);
      return BigInt(-EFAULT);
    },
    probe_read_kernel_str: (dst: number, size: number) => {
      bytes.fill(0, dst, dst + size);
      return BigInt(-EFAULT);
    },
    trace_printk: () => 0n,
    get_stackid: () => BigInt(-EFAULT),
    get_stack: (_ctx: number, dst: number, size: number) => {
      bytes.fill(0, dst, dst + size);
      return BigInt(-EFAULT);
    },
    get_func_ip: () => 0n,
    get_attach_cookie: () => 0n,
    tail_call: () => 0,
  };
  const { probe_read_kernel: read, probe_read_kernel_str: readStr } = made;
  return {
    ...made,
    probe_read: read,
    probe_read_user: read,
    probe_read_str: readStr,
    probe_read_user_str: readStr,
  };
}
