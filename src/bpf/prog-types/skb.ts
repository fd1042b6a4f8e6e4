/** `struct __sk_buff` and `struct xdp_md`, and what each program type may do with them (net/core/filter.c: *_is_valid_access). */
import {
  accessOf,
  type CtxResult,
  type FieldRules,
  layout,
  PKT,
  PKT_END,
  PKT_META,
  SOCK_COMMON_OR_NULL,
} from './fields.ts';

const narrow = { narrow: true } as const;

/** struct __sk_buff */
export const SK_BUFF_LAYOUT = layout('__sk_buff', 192, {
  len: [0, 4, narrow],
  pkt_type: [4, 4, narrow],
  mark: [8, 4, narrow],
  queue_mapping: [12, 4, narrow],
  protocol: [16, 4, narrow],
  vlan_present: [20, 4, narrow],
  vlan_tci: [24, 4, narrow],
  vlan_proto: [28, 4, narrow],
  priority: [32, 4, narrow],
  ingress_ifindex: [36, 4, narrow],
  ifindex: [40, 4, narrow],
  tc_index: [44, 4, narrow],
  cb: [48, 20],
  hash: [68, 4, narrow],
  tc_classid: [72, 4, narrow],
  data: [76, 4],
  data_end: [80, 4],
  napi_id: [84, 4, narrow],
  family: [88, 4, narrow],
  remote_ip4: [92, 4],
  local_ip4: [96, 4],
  remote_ip6: [100, 16],
  local_ip6: [116, 16],
  remote_port: [132, 4, narrow],
  local_port: [136, 4, narrow],
  data_meta: [140, 4],
  flow_keys: [144, 8],
  tstamp: [152, 8],
  wire_len: [160, 4, narrow],
  gso_segs: [164, 4, narrow],
  sk: [168, 8, { pointer: SOCK_COMMON_OR_NULL }],
  gso_size: [176, 4, narrow],
  tstamp_type: [180, 1],
  hwtstamp: [184, 8],
});

const SOCKET_FIELDS = [
  'family',
  'remote_ip4',
  'local_ip4',
  'remote_ip6',
  'local_ip6',
  'remote_port',
  'local_port',
];
const PACKET = { data: PKT, data_end: PKT_END } as const;

function skb(rules: FieldRules): (off: number, size: number, write: boolean) => CtxResult {
  const rest = accessOf(SK_BUFF_LAYOUT, rules);
  return (off, size, write) => {
    // Any part of cb, aligned.
    if (off >= 48 && off < 68) {
      const may = !write || rules.writable?.has('cb') === true;
      return may && off % size === 0 && off + size <= 68 ? 'scalar' : undefined;
    }
    return rest(off, size, write);
  };
}

export const socketFilterAccess = skb({
  hidden: new Set([
    'tc_classid',
    'data',
    'data_meta',
    'data_end',
    ...SOCKET_FIELDS,
    'tstamp',
    'wire_len',
    'hwtstamp',
    'flow_keys',
    'tstamp_type',
  ]),
  writable: new Set(['cb']),
});

/** cg_skb_is_valid_access; packet data and the time are for privileged users. */
export function cgroupSkbAccess(isPrivileged: boolean): ReturnType<typeof skb> {
  const hidden = ['tc_classid', 'data_meta', 'wire_len', 'flow_keys', 'tstamp_type'];
  const writable = ['mark', 'priority', 'cb'];
  if (isPrivileged) writable.push('tstamp');
  else hidden.push('data', 'data_end');
  return skb({ hidden: new Set(hidden), writable: new Set(writable), pointers: PACKET });
}

export const lwtAccess = skb({
  hidden: new Set([
    'tc_classid',
    ...SOCKET_FIELDS,
    'data_meta',
    'tstamp',
    'wire_len',
    'hwtstamp',
    'flow_keys',
    'tstamp_type',
  ]),
  writable: new Set(['mark', 'priority', 'cb']),
  pointers: PACKET,
});

export const tcAccess = skb({
  hidden: new Set([...SOCKET_FIELDS, 'flow_keys']),
  writable: new Set(['mark', 'tc_index', 'priority', 'tc_classid', 'cb', 'tstamp', 'queue_mapping']),
  pointers: { ...PACKET, data_meta: PKT_META },
});

export const skSkbAccess = skb({
  hidden: new Set([
    'tc_classid',
    'data_meta',
    'tstamp',
    'wire_len',
    'hwtstamp',
    'mark',
    'flow_keys',
    'tstamp_type',
  ]),
  writable: new Set(['tc_index', 'priority']),
  pointers: PACKET,
});

export function flowDissectorAccess(off: number, size: number, write: boolean): CtxResult {
  if (write) return undefined;
  if (off === 76 && size === 4) return PKT;
  if (off === 80 && size === 4) return PKT_END;
  return off === 144 && size === 8 ? { type: 'flow_keys' } : undefined;
}

/** struct bpf_flow_keys: any aligned access within. */
export const FLOW_KEYS_SIZE = 56;

export const XDP_MD_LAYOUT = layout('xdp_md', 24, {
  data: [0, 4, { pointer: PKT }],
  data_end: [4, 4, { pointer: PKT_END }],
  data_meta: [8, 4, { pointer: PKT_META }],
  ingress_ifindex: [12, 4],
  rx_queue_index: [16, 4],
  egress_ifindex: [20, 4],
});

export function xdpAccess(isDevmap: boolean): ReturnType<typeof skb> {
  return accessOf(XDP_MD_LAYOUT, isDevmap ? {} : { hidden: new Set(['egress_ifindex']) });
}
