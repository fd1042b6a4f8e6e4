/** Contexts of socket programs, and the socket structures that programs may read (net/core/filter.c). */
import {
  accessOf,
  type CtxResult,
  layout,
  PKT,
  PKT_END,
  SOCK,
  SOCK_COMMON_OR_NULL,
  SOCK_OR_NULL,
} from './fields.ts';

type Access = (off: number, size: number, write: boolean) => CtxResult;
const narrow = { narrow: true } as const;
const start = { narrow: 'start' } as const;

/** struct bpf_sock */
export const SOCK_LAYOUT = layout('bpf_sock', 80, {
  bound_dev_if: [0, 4],
  family: [4, 4, start],
  type: [8, 4, start],
  protocol: [12, 4, start],
  mark: [16, 4],
  priority: [20, 4],
  src_ip4: [24, 4, narrow],
  src_ip6: [28, 16, narrow],
  src_port: [44, 4, start],
  dst_port: [48, 2, narrow],
  dst_ip4: [52, 4, narrow],
  dst_ip6: [56, 16, narrow],
  state: [72, 4, start],
  rx_queue_mapping: [76, 4, start],
});

const sockFields = accessOf(SOCK_LAYOUT);
/** bpf_sock_is_valid_access for reads: dst_port may be read as a word, as it once was. */
export const sockAccess: Access = (off, size, write) =>
  !write && off === 48 && size === 4 ? 'scalar' : sockFields(off, size, write);

/** sock_common: the fields that request and time-wait sockets have too (bpf_sock_common_is_valid_access). */
export const sockCommonAccess: Access = (off, size, write) => {
  // type to priority are a full socket's.
  return off >= 8 && off < 24 ? undefined : sockAccess(off, size, write);
};

/** struct bpf_tcp_sock */
export const tcpSockAccess: Access = (off, size, write) => {
  if (write || off < 0 || off >= 112 || off % size !== 0) return undefined;
  // bytes_received, bytes_acked
  if (off >= 80 && off < 96) return size === 8 ? 'scalar' : undefined;
  return size === 4 ? 'scalar' : undefined;
};

/** struct bpf_xdp_sock */
export const xdpSockAccess: Access = (off, size, write) =>
  !write && off === 0 && size === 4 ? 'scalar' : undefined;

const CREATE = ['cgroup_inet_sock_create', 'cgroup_inet_sock_release'];

/** sock_filter_is_valid_access */
export function cgroupSockAccess(attachType: string): Access {
  const full = new Set(CREATE.includes(attachType) ? ['bound_dev_if', 'mark', 'priority'] : []);
  const hidden = new Set(full.size > 0 ? [] : ['bound_dev_if', 'mark', 'priority']);
  const is4 = attachType === 'cgroup_inet4_post_bind';
  const is6 = attachType === 'cgroup_inet6_post_bind';
  if (!is4) hidden.add('src_ip4');
  if (!is6) hidden.add('src_ip6');
  if (!is4 && !is6) hidden.add('src_port');
  const rest = accessOf(SOCK_LAYOUT, { hidden, writable: full });
  return (off, size, write) => (!write && off === 48 && size === 4 ? 'scalar' : rest(off, size, write));
}

const wideNarrow = { narrow: true, wide: true, write: true } as const;
const SOCK_ADDR = layout('bpf_sock_addr', 72, {
  user_family: [0, 4],
  user_ip4: [4, 4, { narrow: true, write: true }],
  user_ip6: [8, 16, wideNarrow],
  user_port: [24, 4, { narrow: true, write: true }],
  family: [28, 4],
  type: [32, 4],
  protocol: [36, 4],
  msg_src_ip4: [40, 4, { narrow: true, write: true }],
  msg_src_ip6: [44, 16, wideNarrow],
  sk: [64, 8, { pointer: SOCK }],
});

/** sock_addr_is_valid_access */
export function sockAddrAccess(attachType: string): Access {
  const is4 = /inet4|udp4/.test(attachType);
  const is6 = /inet6|udp6/.test(attachType);
  const hidden = new Set<string>();
  if (!is4) hidden.add('user_ip4');
  if (!is6) hidden.add('user_ip6');
  if (attachType !== 'cgroup_udp4_sendmsg') hidden.add('msg_src_ip4');
  if (attachType !== 'cgroup_udp6_sendmsg') hidden.add('msg_src_ip6');
  return accessOf(SOCK_ADDR, { hidden });
}

const SOCK_OPS_LAYOUT = layout('bpf_sock_ops', 224, {
  op: [0, 4],
  reply: [4, 4, { write: true }],
  args: [8, 12],
  words: [20, 144],
  sk_txhash: [164, 4, { write: true }],
  bytes_received: [168, 8],
  bytes_acked: [176, 8],
  sk: [184, 8, { pointer: SOCK_OR_NULL }],
  skb_data: [192, 8, { pointer: PKT }],
  skb_data_end: [200, 8, { pointer: PKT_END }],
  skb_len: [208, 4],
  skb_tcp_flags: [212, 4, start],
  skb_hwtstamp: [216, 8],
});
export const sockOpsAccess: Access = accessOf(SOCK_OPS_LAYOUT);

const SK_MSG_LAYOUT = layout('sk_msg_md', 80, {
  data: [0, 8, { pointer: PKT }],
  data_end: [8, 8, { pointer: PKT_END }],
  words: [16, 56],
  sk: [72, 8, { pointer: SOCK }],
});
export const skMsgAccess: Access = accessOf(SK_MSG_LAYOUT);

const skReuseportFields = accessOf(
  layout('sk_reuseport_md', 56, {
    data: [0, 8, { pointer: PKT }],
    data_end: [8, 8, { pointer: PKT_END }],
    len: [16, 4, narrow],
    eth_protocol: [20, 4, narrow],
    ip_protocol: [24, 4, narrow],
    bind_inany: [28, 4, narrow],
    hash: [32, 4],
    sk: [40, 8, { pointer: SOCK }],
    migrating_sk: [48, 8, { pointer: SOCK_COMMON_OR_NULL }],
  }),
);

/** eth_protocol has two bytes at least. */
export const skReuseportAccess: Access = (off, size, write) =>
  off >= 20 && off < 24 && size < 2 ? undefined : skReuseportFields(off, size, write);

const skLookupFields = accessOf(
  layout('bpf_sk_lookup', 72, {
    sk: [0, 8, { pointer: SOCK_OR_NULL }],
    family: [8, 4, narrow],
    protocol: [12, 4, narrow],
    remote_ip4: [16, 4, narrow],
    remote_ip6: [20, 16, narrow],
    remote_port: [36, 2, narrow],
    zero: [38, 2, narrow],
    local_ip4: [40, 4, narrow],
    local_ip6: [44, 16, narrow],
    local_port: [60, 4, narrow],
    ingress_ifindex: [64, 4, narrow],
  }),
);
export const skLookupAccess: Access = (off, size, write) =>
  !write && off === 36 && size === 4 ? 'scalar' : skLookupFields(off, size, write);

/** cg_sockopt_is_valid_access */
export function sockoptAccess(attachType: string): Access {
  const isGet = attachType === 'cgroup_getsockopt';
  const writable = new Set(isGet ? ['optlen', 'retval'] : ['level', 'optname', 'optlen']);
  return accessOf(
    layout('bpf_sockopt', 40, {
      sk: [0, 8, { pointer: SOCK }],
      optval: [8, 8, { pointer: PKT }],
      optval_end: [16, 8, { pointer: PKT_END }],
      level: [24, 4],
      optname: [28, 4],
      optlen: [32, 4],
      retval: [36, 4],
    }),
    { writable, hidden: new Set(isGet ? [] : ['retval']) },
  );
}

export const cgroupSysctlAccess: Access = accessOf(
  layout('bpf_sysctl', 8, { write: [0, 4, narrow], file_pos: [4, 4, { narrow: true, write: true }] }),
);
export const cgroupDeviceAccess: Access = accessOf(
  layout('bpf_cgroup_dev_ctx', 12, { access_type: [0, 4, narrow], major: [4, 4], minor: [8, 4] }),
);
