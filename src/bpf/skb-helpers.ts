/** The helpers that only converted classic filters call (net/core/filter.c: bpf_skb_get_pay_offset and its neighbours). */

import { aDataView } from './argument-shapes.ts';
import { checkArgument } from './arguments.ts';
import { SKB_HELPERS } from './classic.ts';
import { ETH_P_IP, ETH_P_IPV6 } from './net.ts';
import { SK_BUFF, SK_BUFF_PRIVATE } from './sk-buff.ts';

const ETH_P_8021Q = 0x8100;
const ETH_P_8021AD = 0x88a8;
const IPPROTO = {
  HOPOPTS: 0,
  ICMP: 1,
  IGMP: 2,
  TCP: 6,
  UDP: 17,
  DCCP: 33,
  ROUTING: 43,
  FRAGMENT: 44,
  ICMPV6: 58,
  NONE: 59,
  DSTOPTS: 60,
  SCTP: 132,
  UDPLITE: 136,
} as const;
/** Bytes of the transport headers that have a fixed size. */
const TRANSPORT_SIZE: Record<number, number> = {
  [IPPROTO.UDP]: 8,
  [IPPROTO.UDPLITE]: 8,
  [IPPROTO.ICMP]: 8,
  [IPPROTO.ICMPV6]: 8,
  [IPPROTO.IGMP]: 8,
  [IPPROTO.SCTP]: 12,
};
const NLA_HDRLEN = 4;
const NLA_TYPE_MASK = 0x3fff;

class Packet {
  readonly #view: DataView;
  readonly #data: number;
  readonly #little: boolean;
  readonly length: number;
  readonly headLength: number;
  readonly networkOffset: number;
  readonly protocol: number;

  constructor(view: DataView, skb: number, little: boolean) {
    const get = (field: number): number => view.getUint32(skb + field, little);
    this.#little = little;
    this.#view = view;
    this.#data = get(SK_BUFF.data);
    this.length = get(SK_BUFF.len);
    this.headLength = get(SK_BUFF_PRIVATE.tail) - this.#data;
    this.networkOffset = get(SK_BUFF_PRIVATE.networkHeader) - this.#data;
    this.protocol = view.getUint16(skb + SK_BUFF.protocol);
  }

  has(offset: number, size: number): boolean {
    return offset >= 0 && offset + size <= this.length;
  }
  u8(offset: number): number {
    return this.#view.getUint8(this.#data + offset);
  }
  u16(offset: number): number {
    return this.#view.getUint16(this.#data + offset);
  }
  /** Host order, as netlink attributes are. */
  u16Host(offset: number): number {
    return this.#view.getUint16(this.#data + offset, this.#little);
  }
}

interface Transport {
  readonly offset: number;
  readonly protocol: number;
  readonly laterFragment: boolean;
}

/** The basic part of __skb_flow_dissect: where the transport header is, or undefined for a broken packet. */
function dissect(packet: Packet): Transport | undefined {
  let at = packet.networkOffset;
  let protocol = packet.protocol;
  while (protocol === ETH_P_8021Q || protocol === ETH_P_8021AD) {
    if (!packet.has(at, 4)) return undefined;
    protocol = packet.u16(at + 2);
    at += 4;
  }
  if (protocol === ETH_P_IP) {
    if (!packet.has(at, 20)) return undefined;
    const headerLength = (packet.u8(at) & 15) * 4;
    if (headerLength < 20) return undefined;
    const fragment = packet.u16(at + 6);
    const next = packet.u8(at + 9);
    return { offset: at + headerLength, protocol: next, laterFragment: (fragment & 0x1fff) !== 0 };
  }
  if (protocol !== ETH_P_IPV6 || !packet.has(at, 40)) return undefined;
  let next = packet.u8(at + 6);
  at += 40;
  for (;;) {
    if (next === IPPROTO.HOPOPTS || next === IPPROTO.ROUTING || next === IPPROTO.DSTOPTS) {
      if (!packet.has(at, 2)) return undefined;
      next = packet.u8(at);
      at += (packet.u8(at + 1) + 1) * 8;
    } else if (next === IPPROTO.FRAGMENT) {
      if (!packet.has(at, 8)) return undefined;
      next = packet.u8(at);
      const laterFragment = (packet.u16(at + 2) & 0xfff8) !== 0;
      at += 8;
      if (laterFragment) return { offset: at, protocol: next, laterFragment };
    } else return { offset: at, protocol: next, laterFragment: false };
  }
}

/** skb_get_poff: where the payload behind the transport header starts; 0 for a packet that is none. */
function payOffset(packet: Packet): number {
  const transport = dissect(packet);
  if (transport === undefined) return 0;
  // The flow dissector does not point behind the packet.
  const offset = Math.min(transport.offset, packet.length);
  if (transport.laterFragment) return offset;
  switch (transport.protocol) {
    case IPPROTO.TCP:
      return packet.has(offset + 12, 1)
        ? offset + Math.max(20, (packet.u8(offset + 12) & 0xf0) >> 2)
        : offset;
    case IPPROTO.DCCP:
      return packet.has(offset, 12) ? offset + 12 : offset;
    default:
      return offset + (TRANSPORT_SIZE[transport.protocol] ?? 0);
  }
}

/** nla_find within [start, end): offset of the attribute's header, or undefined. */
function findAttribute(packet: Packet, start: number, end: number, type: number): number | undefined {
  let at = start;
  while (end - at >= NLA_HDRLEN) {
    const length = packet.u16Host(at);
    if (length < NLA_HDRLEN || length > end - at) return undefined;
    if ((packet.u16Host(at + 2) & NLA_TYPE_MASK) === type) return at;
    at += (length + 3) & ~3;
  }
  return undefined;
}

/** Calls helper `id` of SKB_HELPERS for the socket buffer at address `skb`; undefined for any other id. */
export function callSkbHelper(
  view: DataView,
  id: number,
  skb: number,
  a: number,
  x: number,
  little = true,
): number | undefined {
  checkArgument('callSkbHelper()', 'view', view, aDataView);
  const packet = new Packet(view, skb, little);
  switch (id) {
    case SKB_HELPERS.get_pay_offset:
      return payOffset(packet);
    case SKB_HELPERS.get_nlattr:
      if (packet.headLength < NLA_HDRLEN || a > packet.headLength - NLA_HDRLEN) return 0;
      return findAttribute(packet, a, packet.headLength, x) ?? 0;
    case SKB_HELPERS.get_nlattr_nest: {
      if (packet.headLength < NLA_HDRLEN || a > packet.headLength - NLA_HDRLEN) return 0;
      const length = packet.u16Host(a);
      if (length > packet.headLength - a) return 0;
      return findAttribute(packet, a + NLA_HDRLEN, a + length, x) ?? 0;
    }
    default:
      return undefined;
  }
}
