/**
 * Every helper, declared once. The verifier checks calls by `args` and `ret`; JIT and interpreter call
 * `helper.<name>` with `wasm`'s types (or inline it). Facts: kernel/bpf/helpers.c, kernel/trace/bpf_trace.c, kernel/bpf/ringbuf.c.
 */
import type { ArgType, HelperProto, RetType, WasmType } from './proto.ts';

const I32_ARGS: ReadonlySet<ArgType> = new Set<ArgType>([
  'const_map_ptr',
  'map_key',
  'map_value',
  'mem',
  'mem_or_null',
  'mem_fixed',
  'uninit_mem',
  'const_size',
  'const_size_or_zero',
  'const_alloc_size_or_zero',
  'ringbuf_mem_release',
  'ctx',
  'func',
  'stack_or_null',
  'const_str',
]);

type Extra = Partial<Omit<HelperProto, 'id' | 'name' | 'args' | 'ret' | 'wasm'>>;

/** Wasm types follow from the declaration: scalars are i64, pointers, maps and sizes i32; a pointer result is i32. */
function declare(
  id: number,
  name: string,
  ret: RetType,
  args: readonly ArgType[],
  extra: Extra = {},
): HelperProto {
  const params: WasmType[] = args.map((arg) => (I32_ARGS.has(arg) ? 'i32' : 'i64'));
  const result: WasmType | undefined = ret === 'void' ? undefined : ret === 'integer' ? 'i64' : 'i32';
  return { id, name, args, ret, ...extra, wasm: { params, result } };
}

const KEYED = ['hash', 'array', 'percpu_hash', 'percpu_array'];
const HASHES = ['hash', 'percpu_hash'];
const PERCPU = ['percpu_hash', 'percpu_array'];
const RING = ['ringbuf'];

export const HELPERS = {
  map_lookup_elem: declare(1, 'map_lookup_elem', 'map_value_or_null', ['const_map_ptr', 'map_key'], {
    maps: KEYED,
  }),
  map_update_elem: declare(
    2,
    'map_update_elem',
    'integer',
    ['const_map_ptr', 'map_key', 'map_value', 'anything'],
    {
      maps: KEYED,
    },
  ),
  map_delete_elem: declare(3, 'map_delete_elem', 'integer', ['const_map_ptr', 'map_key'], { maps: KEYED }),
  ktime_get_ns: declare(5, 'ktime_get_ns', 'integer', []),
  trace_printk: declare(6, 'trace_printk', 'integer', [
    'mem',
    'const_size',
    'anything',
    'anything',
    'anything',
  ]),
  get_prandom_u32: declare(7, 'get_prandom_u32', 'integer', []),
  get_smp_processor_id: declare(8, 'get_smp_processor_id', 'integer', []),
  get_current_pid_tgid: declare(14, 'get_current_pid_tgid', 'integer', []),
  get_current_uid_gid: declare(15, 'get_current_uid_gid', 'integer', []),
  get_current_comm: declare(16, 'get_current_comm', 'integer', ['uninit_mem', 'const_size']),
  probe_read_kernel: declare(
    113,
    'probe_read_kernel',
    'integer',
    ['uninit_mem', 'const_size_or_zero', 'anything'],
    {
      boundedBySize: true,
    },
  ),
  probe_read_kernel_str: declare(
    115,
    'probe_read_kernel_str',
    'integer',
    ['uninit_mem', 'const_size_or_zero', 'anything'],
    { boundedBySize: true },
  ),
  ktime_get_boot_ns: declare(125, 'ktime_get_boot_ns', 'integer', []),
  ringbuf_output: declare(
    130,
    'ringbuf_output',
    'integer',
    ['const_map_ptr', 'mem', 'const_size_or_zero', 'anything'],
    {
      maps: RING,
    },
  ),
  ringbuf_reserve: declare(
    131,
    'ringbuf_reserve',
    'ringbuf_mem_or_null',
    ['const_map_ptr', 'const_alloc_size_or_zero', 'anything'],
    { maps: RING },
  ),
  ringbuf_submit: declare(132, 'ringbuf_submit', 'void', ['ringbuf_mem_release', 'anything']),
  ringbuf_discard: declare(133, 'ringbuf_discard', 'void', ['ringbuf_mem_release', 'anything']),
  ringbuf_query: declare(134, 'ringbuf_query', 'integer', ['const_map_ptr', 'anything'], { maps: RING }),
  /** The callback gets (map, key, value, ctx): not for arrays, whose keys are nowhere in memory. */
  for_each_map_elem: declare(
    164,
    'for_each_map_elem',
    'integer',
    ['const_map_ptr', 'func', 'stack_or_null', 'anything'],
    { maps: HASHES },
  ),
  loop: declare(181, 'loop', 'integer', ['scalar', 'func', 'stack_or_null', 'anything']),
  strncmp: declare(182, 'strncmp', 'integer', ['mem', 'const_size', 'const_str']),
  map_lookup_percpu_elem: declare(
    195,
    'map_lookup_percpu_elem',
    'map_value_or_null',
    ['const_map_ptr', 'map_key', 'anything'],
    { maps: PERCPU },
  ),
} as const satisfies Record<string, HelperProto>;

export type HelperName = keyof typeof HELPERS;

const byId = new Map<number, HelperProto>(Object.values(HELPERS).map((proto) => [proto.id, proto]));

export function helperById(id: number): HelperProto | undefined {
  return byId.get(id);
}
