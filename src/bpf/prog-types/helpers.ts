/** Which helpers a program type may call (`get_func_proto` of its `struct bpf_verifier_ops`; net/core/filter.c, kernel/trace/bpf_trace.c). */
import { ATTACH_TYPES, type AttachType, type ProgType } from './attach.ts';

const words = (text: string): string[] => text.trim().split(/\s+/);

/** bpf_base_func_proto: for everybody, with CAP_BPF, with CAP_PERFMON. */
const BASE = words(`
  map_lookup_elem map_update_elem map_delete_elem map_push_elem map_pop_elem map_peek_elem map_lookup_percpu_elem
  get_prandom_u32 get_smp_processor_id get_numa_node_id tail_call ktime_get_ns ktime_get_boot_ns ktime_get_tai_ns
  ringbuf_output ringbuf_reserve ringbuf_submit ringbuf_discard ringbuf_query strncmp strtol strtoul get_current_pid_tgid
  get_ns_current_pid_tgid`);
const BASE_BPF = words(`
  spin_lock spin_unlock jiffies64 per_cpu_ptr this_cpu_ptr timer_init timer_set_callback timer_start timer_cancel kptr_xchg
  for_each_map_elem loop user_ringbuf_drain ringbuf_reserve_dynptr ringbuf_submit_dynptr ringbuf_discard_dynptr dynptr_from_mem
  dynptr_read dynptr_write dynptr_data cgrp_storage_get cgrp_storage_delete get_current_cgroup_id get_current_ancestor_cgroup_id`);
const BASE_PERFMON = words(`
  trace_printk get_current_task get_current_task_btf probe_read_user probe_read_kernel probe_read_user_str probe_read_kernel_str
  snprintf_btf snprintf task_pt_regs trace_vprintk`);

const SK_BASE = words(`
  skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock skc_to_unix_sock
  skc_to_mptcp_sock ktime_get_coarse_ns`);
const CGROUP = words('get_local_storage get_retval set_retval');
const CGROUP_TASK = words(
  'get_current_uid_gid get_current_comm get_cgroup_classid current_task_under_cgroup',
);
const SOCKET_LOOKUP = words('sk_lookup_tcp sk_lookup_udp sk_release skc_lookup_tcp');
const SYNCOOKIE = words(`
  tcp_check_syncookie tcp_gen_syncookie tcp_raw_gen_syncookie_ipv4 tcp_raw_gen_syncookie_ipv6 tcp_raw_check_syncookie_ipv4
  tcp_raw_check_syncookie_ipv6`);
const SK_FILTER = words(
  'skb_load_bytes skb_load_bytes_relative get_socket_cookie get_socket_uid perf_event_output',
);
const LWT = words(`
  skb_load_bytes skb_pull_data csum_diff get_cgroup_classid get_route_realm get_hash_recalc perf_event_output skb_under_cgroup`);
const TC = words(`
  skb_store_bytes skb_load_bytes skb_load_bytes_relative skb_pull_data csum_diff csum_update csum_level l3_csum_replace
  l4_csum_replace clone_redirect get_cgroup_classid skb_vlan_push skb_vlan_pop skb_change_proto skb_change_type skb_adjust_room
  skb_change_tail skb_change_head skb_get_tunnel_key skb_set_tunnel_key skb_get_tunnel_opt skb_set_tunnel_opt redirect
  redirect_neigh redirect_peer get_route_realm get_hash_recalc set_hash_invalid set_hash perf_event_output skb_under_cgroup
  get_socket_cookie get_socket_uid fib_lookup check_mtu sk_fullsock sk_storage_get sk_storage_delete
  skb_get_xfrm_state skb_cgroup_classid skb_cgroup_id skb_ancestor_cgroup_id tcp_sock get_listener_sock skb_ecn_set_ce
  sk_assign skb_set_tstamp`);
const XDP = words(`
  perf_event_output csum_diff xdp_adjust_head xdp_adjust_meta redirect redirect_map xdp_adjust_tail xdp_get_buff_len
  xdp_load_bytes xdp_store_bytes fib_lookup check_mtu`);
const TRACING = words(`
  probe_read probe_read_str get_current_uid_gid get_current_comm perf_event_read perf_event_read_value probe_write_user
  send_signal send_signal_thread task_storage_get task_storage_delete get_task_stack copy_from_user copy_from_user_task find_vma
  get_func_ip get_branch_snapshot current_task_under_cgroup`);
const COOKIE = ['get_attach_cookie'];
const TRACING_SKC = words(`
  skb_output xdp_output skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock
  skc_to_unix_sock skc_to_mptcp_sock sk_storage_get sk_storage_delete sock_from_file get_socket_cookie xdp_get_buff_len
  d_path perf_event_output get_stackid get_stack`);
/** Of programs that are attached to a function or an iterator. */
const TRACING_TARGET = words(`
  seq_printf seq_write seq_printf_btf get_func_arg get_func_ret get_func_arg_cnt ima_inode_hash ima_file_hash get_attach_cookie`);
const KPROBE = words('perf_event_output get_stackid get_stack override_return');
const PERF = words('perf_event_output get_stackid get_stack perf_prog_read_value read_branch_records');
const SOCK_OPTS = words('setsockopt getsockopt');

const OWN: Partial<Record<ProgType, readonly string[]>> = {
  socket_filter: [...SK_BASE, ...SK_FILTER],
  cgroup_skb: [
    ...SK_BASE,
    ...SK_FILTER,
    ...CGROUP,
    ...SOCKET_LOOKUP,
    ...words(`sk_fullsock sk_storage_get sk_storage_delete sk_cgroup_id sk_ancestor_cgroup_id skb_cgroup_id skb_ancestor_cgroup_id
      tcp_sock get_listener_sock skb_ecn_set_ce`),
  ],
  sched_cls: [...SK_BASE, ...TC, ...SOCKET_LOOKUP, ...SYNCOOKIE],
  sched_act: [...SK_BASE, ...TC, ...SOCKET_LOOKUP, ...SYNCOOKIE],
  xdp: [...SK_BASE, ...XDP, ...SOCKET_LOOKUP, ...SYNCOOKIE],
  cgroup_sock: [
    'ktime_get_coarse_ns',
    ...CGROUP,
    ...CGROUP_TASK,
    ...words('get_socket_cookie get_netns_cookie perf_event_output sk_storage_get'),
  ],
  cgroup_sock_addr: [
    ...SK_BASE,
    ...CGROUP,
    ...CGROUP_TASK,
    ...SOCKET_LOOKUP,
    ...SOCK_OPTS,
    ...words('bind get_socket_cookie get_netns_cookie perf_event_output sk_storage_get sk_storage_delete'),
  ],
  sock_ops: [
    ...SK_BASE,
    ...CGROUP,
    ...SOCK_OPTS,
    ...words(`sock_ops_cb_flags_set sock_map_update sock_hash_update get_socket_cookie perf_event_output sk_storage_get
      sk_storage_delete get_netns_cookie load_hdr_opt store_hdr_opt reserve_hdr_opt tcp_sock`),
  ],
  sk_msg: [
    ...SK_BASE,
    ...words(`msg_redirect_map msg_redirect_hash msg_apply_bytes msg_cork_bytes msg_pull_data msg_push_data msg_pop_data
      perf_event_output get_current_uid_gid sk_storage_get sk_storage_delete get_netns_cookie get_cgroup_classid`),
  ],
  sk_skb: [
    ...SK_BASE,
    ...SOCKET_LOOKUP,
    ...words(`skb_store_bytes skb_load_bytes skb_pull_data skb_change_tail skb_change_head skb_adjust_room get_socket_cookie
      get_socket_uid sk_redirect_map sk_redirect_hash perf_event_output`),
  ],
  flow_dissector: [...SK_BASE, 'skb_load_bytes'],
  sk_lookup: [...SK_BASE, 'perf_event_output', 'sk_assign', 'sk_release'],
  sk_reuseport: words(
    'sk_select_reuseport skb_load_bytes skb_load_bytes_relative get_socket_cookie ktime_get_coarse_ns',
  ),
  lwt_in: [...SK_BASE, ...LWT, 'lwt_push_encap'],
  lwt_out: [...SK_BASE, ...LWT],
  lwt_seg6local: [
    ...SK_BASE,
    ...LWT.filter((name) => name !== 'skb_pull_data'),
    ...words('lwt_seg6_store_bytes lwt_seg6_action lwt_seg6_adjust_srh'),
  ],
  lwt_xmit: [
    ...SK_BASE,
    ...LWT,
    ...words(`skb_get_tunnel_key skb_set_tunnel_key skb_get_tunnel_opt skb_set_tunnel_opt redirect clone_redirect skb_change_tail
      skb_change_head skb_store_bytes csum_update csum_level l3_csum_replace l4_csum_replace set_hash_invalid lwt_push_encap`),
  ],
  cgroup_sysctl: [
    'ktime_get_coarse_ns',
    ...CGROUP,
    ...CGROUP_TASK,
    ...words(
      'sysctl_get_name sysctl_get_current_value sysctl_get_new_value sysctl_set_new_value perf_event_output',
    ),
  ],
  cgroup_sockopt: [
    ...CGROUP,
    ...CGROUP_TASK,
    ...SOCK_OPTS,
    ...words('sk_storage_get sk_storage_delete get_netns_cookie tcp_sock perf_event_output'),
  ],
  cgroup_device: [...CGROUP, ...CGROUP_TASK, 'perf_event_output'],
  kprobe: [...TRACING, ...KPROBE, ...COOKIE],
  tracepoint: [...TRACING, ...COOKIE, ...words('perf_event_output get_stackid get_stack')],
  perf_event: [...TRACING, ...PERF, ...COOKIE],
  raw_tracepoint: [...TRACING, ...COOKIE, ...words('perf_event_output get_stackid get_stack')],
  raw_tracepoint_writable: [...TRACING, ...COOKIE, ...words('perf_event_output get_stackid get_stack')],
  tracing: [...TRACING, ...TRACING_SKC, ...TRACING_TARGET],
  lsm: [
    ...TRACING,
    ...TRACING_SKC,
    ...TRACING_TARGET,
    ...SOCK_OPTS,
    ...CGROUP,
    ...words('inode_storage_get inode_storage_delete bprm_opts_set'),
  ],
  syscall: [
    ...TRACING,
    ...TRACING_SKC,
    ...words('sys_bpf btf_find_by_name_kind sys_close kallsyms_lookup_name'),
  ],
  struct_ops: [...TRACING, ...COOKIE, ...SOCK_OPTS, ...words('sk_storage_get sk_storage_delete')],
  netfilter: [],
};

const privileged = new Map<ProgType, ReadonlySet<string>>();
const unprivileged = new Map<ProgType, ReadonlySet<string>>();

/** Attach types whose result is no error number (cgroup_common_func_proto). */
const NO_RETVAL = /^cgroup_(inet_(in|e)gress|sock_ops|.*_recvmsg|.*_getpeername|.*_getsockname)$/;

/** Helpers that only some attach types of a program type have. */
function mayAttachTypeCall(type: ProgType, attach: string | undefined, name: string): boolean {
  switch (name) {
    case 'get_retval':
    case 'set_retval':
      return !NO_RETVAL.test(attach ?? (type === 'lsm' ? '' : ATTACH_TYPES[0]));
    case 'bind':
      return attach === undefined || /^cgroup_inet[46]_connect$/.test(attach);
    case 'setsockopt':
    case 'getsockopt':
      return type !== 'cgroup_sockopt' || attach === undefined || attach === 'cgroup_setsockopt';
    default:
      return true;
  }
}

/** Iterators over sockets (bpf_iter_tcp_get_func_proto, bpf_iter_unix_get_func_proto). */
const SOCKET_ITERATORS: ReadonlySet<string> = new Set(['tcp', 'unix']);

/** Whether programs of `type` may call the helper `name`; `target` is what the program is attached to. */
export function mayCallHelper(
  type: ProgType,
  attach: AttachType | undefined,
  name: string,
  isPrivileged: boolean,
  target?: string,
): boolean {
  if (!mayAttachTypeCall(type, attach, name)) return false;
  if (attach === 'trace_iter' && SOCKET_ITERATORS.has(target ?? '') && SOCK_OPTS.includes(name)) return true;
  const known = isPrivileged ? privileged : unprivileged;
  let set = known.get(type);
  if (set === undefined) {
    set = new Set([...BASE, ...(isPrivileged ? [...BASE_BPF, ...BASE_PERFMON] : []), ...(OWN[type] ?? [])]);
    known.set(type, set);
  }
  return set.has(name);
}
