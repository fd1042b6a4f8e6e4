/** What the verifier has to know of each program type (`struct bpf_verifier_ops` and the switches over types in verifier.c). */
import type { AttachType, ProgType } from './attach.ts';
import type { CtxResult } from './fields.ts';
import {
  cgroupSkbAccess,
  flowDissectorAccess,
  lwtAccess,
  skSkbAccess,
  socketFilterAccess,
  tcAccess,
  xdpAccess,
} from './skb.ts';
import {
  cgroupDeviceAccess,
  cgroupSockAccess,
  cgroupSysctlAccess,
  skLookupAccess,
  skMsgAccess,
  skReuseportAccess,
  sockAddrAccess,
  sockOpsAccess,
  sockoptAccess,
} from './sockets.ts';
import {
  kprobeAccess,
  PERF_EVENT_CTX_SIZE,
  PT_REGS_SIZE,
  perfEventAccess,
  rawTracepointAccess,
  rawTracepointWritableAccess,
  SYSCALL_CTX_SIZE,
  syscallAccess,
  TRACEPOINT_CTX_SIZE,
  TRACING_CTX_SIZE,
  tracepointAccess,
} from './tracing.ts';

export { ATTACH_TYPES, type AttachType, PROG_TYPES, type ProgType } from './attach.ts';
export type { CtxPointer, CtxResult } from './fields.ts';
export { attachTypeAtLoad } from './load-attach.ts';

/**
 * Which context fields a program type may use (`is_valid_access` of its `struct bpf_verifier_ops`): `access` answers for
 * `size` bytes at `off`; undefined refuses.
 */
export interface ContextAccess {
  /** Bytes; accesses lie within. */
  readonly size: number;
  access(off: number, size: number, write: boolean): CtxResult;
}

/** The built-in context of a program type; tracing programs with a target's prototype have another (verifier/btf-ctx.ts). */
export function contextOf(
  type: ProgType,
  attachType: AttachType | undefined,
  isPrivileged = true,
): ContextAccess {
  const attach = attachType ?? '';
  switch (type) {
    case 'socket_filter':
      return { size: 192, access: socketFilterAccess };
    case 'cgroup_skb':
      return { size: 192, access: cgroupSkbAccess(isPrivileged) };
    case 'sched_cls':
    case 'sched_act':
      return { size: 192, access: tcAccess };
    case 'lwt_in':
    case 'lwt_out':
    case 'lwt_xmit':
    case 'lwt_seg6local':
      return { size: 192, access: lwtAccess };
    case 'sk_skb':
      return { size: 192, access: skSkbAccess };
    case 'flow_dissector':
      return { size: 192, access: flowDissectorAccess };
    case 'xdp':
      return { size: 24, access: xdpAccess(attach === 'xdp_devmap') };
    case 'cgroup_sock':
      return { size: 80, access: cgroupSockAccess(attach) };
    case 'cgroup_sock_addr':
      return { size: 72, access: sockAddrAccess(attach) };
    case 'sock_ops':
      return { size: 224, access: sockOpsAccess };
    case 'sk_msg':
      return { size: 80, access: skMsgAccess };
    case 'sk_reuseport':
      return { size: 56, access: skReuseportAccess };
    case 'sk_lookup':
      return { size: 72, access: skLookupAccess };
    case 'cgroup_sockopt':
      return { size: 40, access: sockoptAccess(attach) };
    case 'cgroup_sysctl':
      return { size: 8, access: cgroupSysctlAccess };
    case 'cgroup_device':
      return { size: 12, access: cgroupDeviceAccess };
    case 'kprobe':
      return { size: PT_REGS_SIZE, access: kprobeAccess };
    case 'tracepoint':
      return { size: TRACEPOINT_CTX_SIZE, access: tracepointAccess };
    case 'raw_tracepoint':
    case 'tracing':
    case 'lsm':
    case 'struct_ops':
      return { size: TRACING_CTX_SIZE, access: rawTracepointAccess };
    case 'raw_tracepoint_writable':
      return { size: TRACING_CTX_SIZE, access: rawTracepointWritableAccess };
    case 'perf_event':
      return { size: PERF_EVENT_CTX_SIZE, access: perfEventAccess };
    case 'syscall':
      return { size: SYSCALL_CTX_SIZE, access: syscallAccess };
    case 'netfilter':
      return { size: 16, access: netfilterAccess };
    case 'lirc_mode2':
      return {
        size: 4,
        access: (off, size, write) => (off === 0 && size === 4 && !write ? 'scalar' : undefined),
      };
    case 'ext':
      return { size: 0, access: () => undefined };
  }
}

/** nf_is_valid_access: `struct bpf_nf_ctx`. */
function netfilterAccess(off: number, size: number, write: boolean): CtxResult {
  if (write || size !== 8) return undefined;
  // F_TRUSTED of verifier/reg.ts
  if (off === 0) return { type: 'ptr_', struct: 'nf_hook_state', flags: 32 };
  return off === 8 ? { type: 'ptr_', struct: 'sk_buff', flags: 32 } : undefined;
}

/** Values a program may return (check_return_code): `[min, max]`; undefined: any. */
export function returnRange(
  type: ProgType,
  attachType: AttachType | undefined,
): readonly [number, number] | undefined {
  const attach = attachType ?? '';
  switch (type) {
    case 'cgroup_sock_addr':
      if (/recvmsg|getpeername|getsockname/.test(attach)) return [1, 1];
      return attach === 'cgroup_inet4_bind' || attach === 'cgroup_inet6_bind' ? [0, 3] : [0, 1];
    case 'cgroup_skb':
      return attach === 'cgroup_inet_egress' ? [0, 3] : [0, 1];
    case 'cgroup_sock':
    case 'sock_ops':
    case 'cgroup_device':
    case 'cgroup_sysctl':
    case 'cgroup_sockopt':
    case 'sk_lookup':
    case 'netfilter':
      return [0, 1];
    case 'tracing':
      if (attach === 'trace_fentry' || attach === 'trace_fexit') return [0, 0];
      return attach === 'trace_iter' ? [0, 1] : undefined;
    default:
      return undefined;
  }
}

/** may_access_direct_pkt_data */
export function mayAccessPacket(type: ProgType, write: boolean): boolean {
  switch (type) {
    case 'lwt_in':
    case 'lwt_out':
    case 'lwt_seg6local':
    case 'sk_reuseport':
    case 'flow_dissector':
    case 'cgroup_skb':
      return !write;
    case 'sched_cls':
    case 'sched_act':
    case 'xdp':
    case 'lwt_xmit':
    case 'sk_skb':
    case 'sk_msg':
    case 'cgroup_sockopt':
      return true;
    default:
      return false;
  }
}

/** is_tracing_prog_type */
export const isTracingType = (type: ProgType): boolean =>
  type === 'kprobe' ||
  type === 'tracepoint' ||
  type === 'perf_event' ||
  type === 'raw_tracepoint' ||
  type === 'raw_tracepoint_writable';

/** may_access_skb: LD_ABS and LD_IND. */
export const mayLoadAbsolute = (type: ProgType): boolean =>
  type === 'socket_filter' || type === 'sched_cls' || type === 'sched_act';
