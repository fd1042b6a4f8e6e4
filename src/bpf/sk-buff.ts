/**
 * The context of socket filters in linear memory: `struct __sk_buff` (include/uapi/linux/bpf.h), followed by what the kernel
 * keeps in `struct sk_buff` and programs do not see. Packet bytes are contiguous; addresses are linear-memory offsets.
 */

import { aDataView } from './argument-shapes.ts';
import { anInteger, anObject, checkArgument } from './arguments.ts';
/** Byte offsets of struct __sk_buff; u32 each. `protocol` and `vlan_proto` are in network order. */
export const SK_BUFF = {
  len: 0,
  pkt_type: 4,
  mark: 8,
  queue_mapping: 12,
  protocol: 16,
  vlan_present: 20,
  vlan_tci: 24,
  vlan_proto: 28,
  priority: 32,
  ingress_ifindex: 36,
  ifindex: 40,
  tc_index: 44,
  cb: 48,
  hash: 68,
  tc_classid: 72,
  data: 76,
  data_end: 80,
  napi_id: 84,
  size: 192,
} as const;

/** Private fields behind it, u32: not readable by programs that are verified. */
export const SK_BUFF_PRIVATE = {
  /** Address of the first byte that headers may occupy, and of the end of the linear part. */
  head: 192,
  tail: 196,
  /** Addresses of the headers. */
  macHeader: 200,
  networkHeader: 204,
  /** skb->dev->type */
  devType: 208,
  size: 224,
} as const;

/** Start of negative offsets that address the network and the link layer header (include/uapi/linux/filter.h). */
export const SKF_NET_OFF = -0x100000;
export const SKF_LL_OFF = -0x200000;

export interface SkBuffFields {
  /** Address of the packet's bytes, all that there are. */
  readonly data: number;
  readonly len: number;
  /** Bytes of the linear part; the rest is in fragments. Default len. */
  readonly headLen?: number;
  /** Offset of the network header in the packet. Default 0. */
  readonly networkOffset?: number;
  readonly pktType?: number;
  readonly mark?: number;
  readonly queueMapping?: number;
  /** Host order. */
  readonly protocol?: number;
  readonly vlanTci?: number;
  /** Host order. */
  readonly vlanProto?: number;
  readonly vlanPresent?: boolean;
  readonly ifindex?: number;
  readonly hash?: number;
  readonly devType?: number;
}

/** Writes a context at `address`; in the order of another machine where `little` is false. */
export function writeSkBuff(view: DataView, address: number, skb: SkBuffFields, little = true): void {
  checkArgument('writeSkBuff()', 'view', view, aDataView);
  checkArgument('writeSkBuff()', 'address', address, anInteger());
  checkArgument('writeSkBuff()', 'skb', skb, anObject);
  const set = (offset: number, value: number | undefined): void =>
    view.setUint32(address + offset, (value ?? 0) >>> 0, little);
  const swap16 = (value = 0): number => ((value & 0xff) << 8) | ((value >> 8) & 0xff);
  for (let at = 0; at < SK_BUFF_PRIVATE.size; at += 4) set(at, 0);
  set(SK_BUFF.len, skb.len);
  set(SK_BUFF.pkt_type, skb.pktType);
  set(SK_BUFF.mark, skb.mark);
  set(SK_BUFF.queue_mapping, skb.queueMapping);
  set(SK_BUFF.protocol, swap16(skb.protocol));
  set(SK_BUFF.vlan_present, (skb.vlanPresent ?? skb.vlanTci !== undefined) ? 1 : 0);
  set(SK_BUFF.vlan_tci, skb.vlanTci);
  set(SK_BUFF.vlan_proto, swap16(skb.vlanProto));
  set(SK_BUFF.ifindex, skb.ifindex);
  set(SK_BUFF.hash, skb.hash);
  set(SK_BUFF.data, skb.data);
  const headLen = skb.headLen ?? skb.len;
  set(SK_BUFF.data_end, skb.data + headLen);
  set(SK_BUFF_PRIVATE.head, skb.data);
  set(SK_BUFF_PRIVATE.tail, skb.data + headLen);
  set(SK_BUFF_PRIVATE.macHeader, skb.data);
  set(SK_BUFF_PRIVATE.networkHeader, skb.data + (skb.networkOffset ?? 0));
  set(SK_BUFF_PRIVATE.devType, skb.devType);
}

/**
 * What BPF_LD | BPF_ABS and BPF_IND read (bpf_skb_load_helper_8 and its like, net/core/filter.c): big-endian bytes at a packet
 * offset, or undefined. Negative offsets go through bpf_internal_load_pointer_neg_helper.
 */
export function loadPacket(view: DataView, skb: number, offset: number, size: 1 | 2 | 4): number | undefined {
  checkArgument('loadPacket()', 'view', view, aDataView);
  const get = (field: number): number => view.getUint32(skb + field, true);
  let address: number;
  if (offset >= 0) {
    if (offset + size > get(SK_BUFF.len)) return undefined;
    address = get(SK_BUFF.data) + offset;
  } else {
    if (offset >= SKF_NET_OFF) address = get(SK_BUFF_PRIVATE.networkHeader) + offset - SKF_NET_OFF;
    else if (offset >= SKF_LL_OFF) address = get(SK_BUFF_PRIVATE.macHeader) + offset - SKF_LL_OFF;
    else return undefined;
    if (address < get(SK_BUFF_PRIVATE.head) || address + size > get(SK_BUFF_PRIVATE.tail)) return undefined;
  }
  return size === 1 ? view.getUint8(address) : size === 2 ? view.getUint16(address) : view.getUint32(address);
}
