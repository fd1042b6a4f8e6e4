/** Which map types go with which helpers (check_map_func_compatibility), and with which programs (check_map_prog_compatibility). */
import { BPF_MAP_TYPE, type MapSpec, type MapType } from '../maps/map-spec.ts';
import { isTracingType } from '../prog-types/index.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';

/** Maps that only these helpers take. */
const MAP_HELPERS: Readonly<Partial<Record<MapType, readonly string[]>>> = {
  prog_array: ['tail_call'],
  perf_event_array: [
    'perf_event_read',
    'perf_event_output',
    'skb_output',
    'perf_event_read_value',
    'xdp_output',
  ],
  ringbuf: [
    'ringbuf_output',
    'ringbuf_reserve',
    'ringbuf_query',
    'ringbuf_reserve_dynptr',
    'ringbuf_submit_dynptr',
    'ringbuf_discard_dynptr',
  ],
  user_ringbuf: ['user_ringbuf_drain'],
  stack_trace: ['get_stackid'],
  cgroup_array: ['skb_under_cgroup', 'current_task_under_cgroup'],
  cgroup_storage: ['get_local_storage'],
  percpu_cgroup_storage: ['get_local_storage'],
  devmap: ['redirect_map', 'map_lookup_elem'],
  devmap_hash: ['redirect_map', 'map_lookup_elem'],
  cpumap: ['redirect_map'],
  xskmap: ['redirect_map', 'map_lookup_elem'],
  array_of_maps: ['map_lookup_elem'],
  hash_of_maps: ['map_lookup_elem'],
  sockmap: [
    'sk_redirect_map',
    'sock_map_update',
    'msg_redirect_map',
    'sk_select_reuseport',
    'map_lookup_elem',
  ],
  sockhash: [
    'sk_redirect_hash',
    'sock_hash_update',
    'msg_redirect_hash',
    'sk_select_reuseport',
    'map_lookup_elem',
  ],
  reuseport_sockarray: ['sk_select_reuseport'],
  queue: ['map_peek_elem', 'map_pop_elem', 'map_push_elem'],
  stack: ['map_peek_elem', 'map_pop_elem', 'map_push_elem'],
  sk_storage: ['sk_storage_get', 'sk_storage_delete', 'kptr_xchg'],
  inode_storage: ['inode_storage_get', 'inode_storage_delete', 'kptr_xchg'],
  task_storage: ['task_storage_get', 'task_storage_delete', 'kptr_xchg'],
  cgrp_storage: ['cgrp_storage_get', 'cgrp_storage_delete', 'kptr_xchg'],
  bloom_filter: ['map_peek_elem', 'map_push_elem'],
};

const PERF: readonly MapType[] = ['perf_event_array'];
const RINGBUF: readonly MapType[] = ['ringbuf'];
const CGROUPS: readonly MapType[] = ['cgroup_array'];

/** Helpers that only take these maps. */
const HELPER_MAPS: Readonly<Record<string, readonly MapType[]>> = {
  tail_call: ['prog_array'],
  perf_event_read: PERF,
  perf_event_output: PERF,
  perf_event_read_value: PERF,
  skb_output: PERF,
  xdp_output: PERF,
  ringbuf_output: RINGBUF,
  ringbuf_reserve: RINGBUF,
  ringbuf_query: RINGBUF,
  ringbuf_reserve_dynptr: RINGBUF,
  ringbuf_submit_dynptr: RINGBUF,
  ringbuf_discard_dynptr: RINGBUF,
  user_ringbuf_drain: ['user_ringbuf'],
  get_stackid: ['stack_trace'],
  current_task_under_cgroup: CGROUPS,
  skb_under_cgroup: CGROUPS,
  redirect_map: ['devmap', 'devmap_hash', 'cpumap', 'xskmap'],
  sk_redirect_map: ['sockmap'],
  msg_redirect_map: ['sockmap'],
  sock_map_update: ['sockmap'],
  sk_redirect_hash: ['sockhash'],
  msg_redirect_hash: ['sockhash'],
  sock_hash_update: ['sockhash'],
  get_local_storage: ['cgroup_storage', 'percpu_cgroup_storage'],
  sk_select_reuseport: ['reuseport_sockarray', 'sockmap', 'sockhash'],
  map_pop_elem: ['queue', 'stack'],
  map_peek_elem: ['queue', 'stack', 'bloom_filter'],
  map_push_elem: ['queue', 'stack', 'bloom_filter'],
  map_lookup_percpu_elem: ['percpu_array', 'percpu_hash', 'lru_percpu_hash'],
  sk_storage_get: ['sk_storage'],
  sk_storage_delete: ['sk_storage'],
  inode_storage_get: ['inode_storage'],
  inode_storage_delete: ['inode_storage'],
  task_storage_get: ['task_storage'],
  task_storage_delete: ['task_storage'],
  cgrp_storage_get: ['cgrp_storage'],
  cgrp_storage_delete: ['cgrp_storage'],
};

/** Program types that may change socket maps by the ordinary helpers (may_update_sockmap). */
const SOCKMAP_WRITERS: ReadonlySet<string> = new Set([
  'socket_filter',
  'sched_cls',
  'sched_act',
  'xdp',
  'sk_reuseport',
  'flow_dissector',
  'sk_lookup',
]);

function mayUpdateSockmap(env: Env, helper: string): boolean {
  if (helper !== 'map_update_elem' && helper !== 'map_delete_elem') return false;
  const { type, attachType } = env.input;
  if (type === 'tracing' && attachType === 'trace_iter') return true;
  if (type === 'sock_ops' && helper === 'map_delete_elem') return true;
  return SOCKMAP_WRITERS.has(type);
}

export function checkMapHelper(env: Env, spec: MapSpec, id: number, helper: string): void {
  const isSockmap = spec.type === 'sockmap' || spec.type === 'sockhash';
  const byMap = MAP_HELPERS[spec.type];
  const byHelper = HELPER_MAPS[helper];
  const mapOk = byMap === undefined || byMap.includes(helper) || (isSockmap && mayUpdateSockmap(env, helper));
  if (mapOk && (byHelper === undefined || byHelper.includes(spec.type))) return;
  const text = `cannot pass map_type ${BPF_MAP_TYPE[spec.type]} into func bpf_${helper}#${id}`;
  const isWrite = helper === 'map_update_elem' || helper === 'map_delete_elem';
  reject('EINVAL', isSockmap && isWrite ? `cannot update sockmap in this context\n${text}` : text);
}

/** Maps that a sleepable program may use. */
const SLEEPABLE: ReadonlySet<MapType> = new Set<MapType>([
  'hash',
  'lru_hash',
  'array',
  'percpu_hash',
  'percpu_array',
  'lru_percpu_hash',
  'array_of_maps',
  'hash_of_maps',
  'ringbuf',
  'user_ringbuf',
  'inode_storage',
  'sk_storage',
  'task_storage',
  'cgrp_storage',
  'queue',
  'stack',
  'arena',
]);

export function checkMapProgram(env: Env, spec: MapSpec): void {
  const has = (kind: string): boolean => spec.record?.fields.some((field) => field.kind === kind) === true;
  const { type } = env.input;
  const isTracing = isTracingType(type);
  if ((has('list_head') || has('rb_root')) && isTracing)
    reject('EINVAL', 'tracing progs cannot use bpf_{list_head,rb_root} yet');
  if (has('spin_lock') || has('res_spin_lock')) {
    if (type === 'socket_filter') reject('EINVAL', 'socket filter progs cannot use bpf_spin_lock yet');
    if (isTracing) reject('EINVAL', 'tracing progs cannot use bpf_spin_lock yet');
  }
  if (has('timer') && isTracing) reject('EINVAL', 'tracing progs cannot use bpf_timer yet');
  if (has('wq') && isTracing) reject('EINVAL', 'tracing progs cannot use bpf_wq yet');
  if (spec.type === 'struct_ops') reject('EINVAL', 'bpf_struct_ops map cannot be used in prog');
  if (env.isSleepable && !SLEEPABLE.has(spec.type)) {
    reject('EINVAL', 'Sleepable programs can only use array, hash, ringbuf and local storage maps');
  }
}
