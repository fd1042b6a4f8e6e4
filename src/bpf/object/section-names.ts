/**
 * What a section name says about the program in it: libbpf's `section_defs` (src/libbpf.c) as data. A name of the table that
 * ends with `+` stands alone or is followed by `/` and a target; any other must be the whole section name.
 */
import { aString, checkArgument } from '../arguments.ts';
import type { AttachType, ProgType } from '../prog-types/index.ts';

/** BPF_F_SLEEPABLE and BPF_F_XDP_HAS_FRAGS: prog_flags of BPF_PROG_LOAD. */
export const BPF_F_SLEEPABLE = 1 << 4;
export const BPF_F_XDP_HAS_FRAGS = 1 << 5;

export interface SectionDef {
  readonly pattern: string;
  readonly type: ProgType;
  /** expected_attach_type; absent is 0. */
  readonly attachType?: AttachType;
  readonly sleepable?: boolean;
  readonly xdpFrags?: boolean;
  /** The target is a function, hook or iterator of the kernel's BTF, and must be there to load the program. */
  readonly attachBtf?: boolean;
}

type Flag = 'sleepable' | 'xdpFrags' | 'attachBtf';

function def(pattern: string, type: ProgType, attachType?: AttachType, ...flags: Flag[]): SectionDef {
  return {
    pattern,
    type,
    ...(attachType === undefined ? {} : { attachType }),
    ...Object.fromEntries(flags.map((flag) => [flag, true])),
  };
}

export const SECTION_DEFS: readonly SectionDef[] = [
  def('socket', 'socket_filter'),
  def('sk_reuseport/migrate', 'sk_reuseport', 'sk_reuseport_select_or_migrate'),
  def('sk_reuseport', 'sk_reuseport', 'sk_reuseport_select'),
  def('kprobe+', 'kprobe'),
  def('uprobe+', 'kprobe'),
  def('uprobe.s+', 'kprobe', undefined, 'sleepable'),
  def('kretprobe+', 'kprobe'),
  def('uretprobe+', 'kprobe'),
  def('uretprobe.s+', 'kprobe', undefined, 'sleepable'),
  def('kprobe.multi+', 'kprobe', 'trace_kprobe_multi'),
  def('kretprobe.multi+', 'kprobe', 'trace_kprobe_multi'),
  def('kprobe.session+', 'kprobe', 'trace_kprobe_session'),
  def('uprobe.multi+', 'kprobe', 'trace_uprobe_multi'),
  def('uretprobe.multi+', 'kprobe', 'trace_uprobe_multi'),
  def('uprobe.session+', 'kprobe', 'trace_uprobe_session'),
  def('uprobe.multi.s+', 'kprobe', 'trace_uprobe_multi', 'sleepable'),
  def('uretprobe.multi.s+', 'kprobe', 'trace_uprobe_multi', 'sleepable'),
  def('uprobe.session.s+', 'kprobe', 'trace_uprobe_session', 'sleepable'),
  def('ksyscall+', 'kprobe'),
  def('kretsyscall+', 'kprobe'),
  def('usdt+', 'kprobe'),
  def('usdt.s+', 'kprobe', undefined, 'sleepable'),
  def('tc/ingress', 'sched_cls', 'tcx_ingress'),
  def('tc/egress', 'sched_cls', 'tcx_egress'),
  def('tcx/ingress', 'sched_cls', 'tcx_ingress'),
  def('tcx/egress', 'sched_cls', 'tcx_egress'),
  def('tc', 'sched_cls'),
  def('classifier', 'sched_cls'),
  def('action', 'sched_act'),
  def('netkit/primary', 'sched_cls', 'netkit_primary'),
  def('netkit/peer', 'sched_cls', 'netkit_peer'),
  def('tracepoint+', 'tracepoint'),
  def('tp+', 'tracepoint'),
  def('tracepoint.s+', 'tracepoint', undefined, 'sleepable'),
  def('tp.s+', 'tracepoint', undefined, 'sleepable'),
  def('raw_tracepoint+', 'raw_tracepoint'),
  def('raw_tp+', 'raw_tracepoint'),
  def('raw_tracepoint.s+', 'raw_tracepoint', undefined, 'sleepable'),
  def('raw_tp.s+', 'raw_tracepoint', undefined, 'sleepable'),
  def('raw_tracepoint.w+', 'raw_tracepoint_writable'),
  def('raw_tp.w+', 'raw_tracepoint_writable'),
  def('tp_btf+', 'tracing', 'trace_raw_tp', 'attachBtf'),
  def('tp_btf.s+', 'tracing', 'trace_raw_tp', 'attachBtf', 'sleepable'),
  def('fentry+', 'tracing', 'trace_fentry', 'attachBtf'),
  def('fmod_ret+', 'tracing', 'modify_return', 'attachBtf'),
  def('fexit+', 'tracing', 'trace_fexit', 'attachBtf'),
  def('fentry.s+', 'tracing', 'trace_fentry', 'attachBtf', 'sleepable'),
  def('fmod_ret.s+', 'tracing', 'modify_return', 'attachBtf', 'sleepable'),
  def('fexit.s+', 'tracing', 'trace_fexit', 'attachBtf', 'sleepable'),
  def('fsession+', 'tracing', 'trace_fsession', 'attachBtf'),
  def('fsession.s+', 'tracing', 'trace_fsession', 'attachBtf', 'sleepable'),
  def('fsession.multi+', 'tracing', 'trace_fsession_multi'),
  def('fsession.multi.s+', 'tracing', 'trace_fsession_multi', 'sleepable'),
  def('fentry.multi+', 'tracing', 'trace_fentry_multi'),
  def('fexit.multi+', 'tracing', 'trace_fexit_multi'),
  def('fentry.multi.s+', 'tracing', 'trace_fentry_multi', 'sleepable'),
  def('fexit.multi.s+', 'tracing', 'trace_fexit_multi', 'sleepable'),
  def('freplace+', 'ext', undefined, 'attachBtf'),
  def('lsm+', 'lsm', 'lsm_mac', 'attachBtf'),
  def('lsm.s+', 'lsm', 'lsm_mac', 'attachBtf', 'sleepable'),
  def('lsm_cgroup+', 'lsm', 'lsm_cgroup', 'attachBtf'),
  def('iter+', 'tracing', 'trace_iter', 'attachBtf'),
  def('iter.s+', 'tracing', 'trace_iter', 'attachBtf', 'sleepable'),
  def('syscall', 'syscall', undefined, 'sleepable'),
  def('xdp.frags/devmap', 'xdp', 'xdp_devmap', 'xdpFrags'),
  def('xdp/devmap', 'xdp', 'xdp_devmap'),
  def('xdp.frags/cpumap', 'xdp', 'xdp_cpumap', 'xdpFrags'),
  def('xdp/cpumap', 'xdp', 'xdp_cpumap'),
  def('xdp.frags', 'xdp', 'xdp', 'xdpFrags'),
  def('xdp', 'xdp', 'xdp'),
  def('perf_event', 'perf_event'),
  def('lwt_in', 'lwt_in'),
  def('lwt_out', 'lwt_out'),
  def('lwt_xmit', 'lwt_xmit'),
  def('lwt_seg6local', 'lwt_seg6local'),
  def('sockops', 'sock_ops', 'cgroup_sock_ops'),
  def('sk_skb/stream_parser', 'sk_skb', 'sk_skb_stream_parser'),
  def('sk_skb/stream_verdict', 'sk_skb', 'sk_skb_stream_verdict'),
  def('sk_skb/verdict', 'sk_skb', 'sk_skb_verdict'),
  def('sk_skb', 'sk_skb'),
  def('sk_msg', 'sk_msg', 'sk_msg_verdict'),
  def('lirc_mode2', 'lirc_mode2', 'lirc_mode2'),
  def('flow_dissector', 'flow_dissector', 'flow_dissector'),
  def('cgroup_skb/ingress', 'cgroup_skb', 'cgroup_inet_ingress'),
  def('cgroup_skb/egress', 'cgroup_skb', 'cgroup_inet_egress'),
  def('cgroup/skb', 'cgroup_skb'),
  def('cgroup/sock_create', 'cgroup_sock', 'cgroup_inet_sock_create'),
  def('cgroup/sock_release', 'cgroup_sock', 'cgroup_inet_sock_release'),
  def('cgroup/sock', 'cgroup_sock', 'cgroup_inet_sock_create'),
  def('cgroup/post_bind4', 'cgroup_sock', 'cgroup_inet4_post_bind'),
  def('cgroup/post_bind6', 'cgroup_sock', 'cgroup_inet6_post_bind'),
  def('cgroup/bind4', 'cgroup_sock_addr', 'cgroup_inet4_bind'),
  def('cgroup/bind6', 'cgroup_sock_addr', 'cgroup_inet6_bind'),
  def('cgroup/connect4', 'cgroup_sock_addr', 'cgroup_inet4_connect'),
  def('cgroup/connect6', 'cgroup_sock_addr', 'cgroup_inet6_connect'),
  def('cgroup/connect_unix', 'cgroup_sock_addr', 'cgroup_unix_connect'),
  def('cgroup/sendmsg4', 'cgroup_sock_addr', 'cgroup_udp4_sendmsg'),
  def('cgroup/sendmsg6', 'cgroup_sock_addr', 'cgroup_udp6_sendmsg'),
  def('cgroup/sendmsg_unix', 'cgroup_sock_addr', 'cgroup_unix_sendmsg'),
  def('cgroup/recvmsg4', 'cgroup_sock_addr', 'cgroup_udp4_recvmsg'),
  def('cgroup/recvmsg6', 'cgroup_sock_addr', 'cgroup_udp6_recvmsg'),
  def('cgroup/recvmsg_unix', 'cgroup_sock_addr', 'cgroup_unix_recvmsg'),
  def('cgroup/getpeername4', 'cgroup_sock_addr', 'cgroup_inet4_getpeername'),
  def('cgroup/getpeername6', 'cgroup_sock_addr', 'cgroup_inet6_getpeername'),
  def('cgroup/getpeername_unix', 'cgroup_sock_addr', 'cgroup_unix_getpeername'),
  def('cgroup/getsockname4', 'cgroup_sock_addr', 'cgroup_inet4_getsockname'),
  def('cgroup/getsockname6', 'cgroup_sock_addr', 'cgroup_inet6_getsockname'),
  def('cgroup/getsockname_unix', 'cgroup_sock_addr', 'cgroup_unix_getsockname'),
  def('cgroup/sysctl', 'cgroup_sysctl', 'cgroup_sysctl'),
  def('cgroup/getsockopt', 'cgroup_sockopt', 'cgroup_getsockopt'),
  def('cgroup/setsockopt', 'cgroup_sockopt', 'cgroup_setsockopt'),
  def('cgroup/dev', 'cgroup_device', 'cgroup_device'),
  def('struct_ops+', 'struct_ops'),
  def('struct_ops.s+', 'struct_ops', undefined, 'sleepable'),
  def('sk_lookup', 'sk_lookup', 'sk_lookup'),
  def('netfilter', 'netfilter', 'netfilter'),
];

const EXACT = new Map(
  SECTION_DEFS.filter(({ pattern }) => !pattern.endsWith('+')).map((entry) => [entry.pattern, entry]),
);
const WITH_TARGET = new Map(
  SECTION_DEFS.filter(({ pattern }) => pattern.endsWith('+')).map((entry) => [
    entry.pattern.slice(0, -1),
    entry,
  ]),
);

/** What a section name says. */
export interface SectionMeaning extends Omit<SectionDef, 'pattern'> {
  /** What stands behind the `/`, where the kind of section has a target: `vfs_read`, `sched/sched_switch`. */
  readonly attachTo?: string;
}

/** The meaning of a section's name, `?` taken off before; undefined where libbpf knows none. */
export function parseSectionName(name: string): SectionMeaning | undefined {
  checkArgument('parseSectionName()', 'name', name, aString);
  const exact = EXACT.get(name);
  if (exact !== undefined) return withoutPattern(exact);
  const slash = name.indexOf('/');
  const entry = WITH_TARGET.get(slash < 0 ? name : name.slice(0, slash));
  if (entry === undefined) return undefined;
  const meaning = withoutPattern(entry);
  return slash < 0 ? meaning : { ...meaning, attachTo: name.slice(slash + 1) };
}

function withoutPattern({ pattern: _, ...meaning }: SectionDef): SectionMeaning {
  return meaning;
}
