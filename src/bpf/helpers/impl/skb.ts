/** Packets of `struct __sk_buff` (net/core/filter.c, net/core/skbuff.c). The bytes lie in one piece, within the block of the test run. */
import { SK_BUFF, SK_BUFF_PRIVATE } from '../../sk-buff.ts';
import { replace2 } from './checksum.ts';
import { fail, type HelperImpl, u32, u64, view } from './context.ts';
import { loadPacketBytes, packetLength, packetStart, storePacketBytes } from './packet.ts';
import { ETH_P_IP, ETH_P_IPV6, MAX_LENGTH, MAX_OFFSET, SKB_META, Skb } from './skb-buffer.ts';
import { SKB_CHECKSUM_HELPERS } from './skb-checksum.ts';
import { adjustRoom, changeProtocol } from './skb-room.ts';

const ETH_HLEN = 14;
const ETH_P_8021Q = 0x8100;
const ETH_P_8021AD = 0x88a8;
const VLAN_HLEN = 4;
const PACKET_OTHERHOST = 3;
const BPF_F_INVALIDATE_HASH = 2n;

function setVlan(skb: Skb, present: boolean, protocol = 0, tci = 0): void {
  skb.set(SK_BUFF.vlan_present, present ? 1 : 0);
  skb.set(SK_BUFF.vlan_tci, present ? tci : 0);
  skb.set(SK_BUFF.vlan_proto, present ? ((protocol & 0xff) << 8) | (protocol >> 8) : 0);
}

const isVlan = (protocol: number): boolean => protocol === ETH_P_8021Q || protocol === ETH_P_8021AD;

export const SKB_HELPERS_IMPL: Readonly<Record<string, HelperImpl>> = {
  skb_load_bytes: (c, ctx: number, offset: bigint, to: number, size: number) =>
    BigInt(loadPacketBytes(c, ctx, u32(offset), to >>> 0, size >>> 0)),
  skb_load_bytes_relative(c, ctx: number, at: bigint, to: number, size: number, header: bigint) {
    const skb = new Skb(c, ctx);
    const offset = u32(at);
    const length = size >>> 0;
    const base = [SK_BUFF_PRIVATE.macHeader, SK_BUFF_PRIVATE.networkHeader][u32(header)];
    const start = base === undefined ? 0 : skb.get(base) + offset;
    if (base === undefined || offset > MAX_OFFSET || start + length > skb.data + skb.length) {
      skb.u8.fill(0, to >>> 0, (to >>> 0) + length);
      return fail('EFAULT');
    }
    skb.u8.copyWithin(to >>> 0, start, start + length);
    return 0n;
  },
  skb_store_bytes(c, ctx: number, offset: bigint, from: number, size: number, flags: bigint) {
    if ((u64(flags) & ~3n) !== 0n) return fail('EINVAL');
    const error = storePacketBytes(c, ctx, u32(offset), from >>> 0, size >>> 0);
    if (error === 0 && (flags & BPF_F_INVALIDATE_HASH) !== 0n) new Skb(c, ctx).set(SK_BUFF.hash, 0);
    return BigInt(error);
  },
  skb_pull_data: (c, ctx: number, size: bigint) => (u32(size) <= packetLength(c, ctx) ? 0n : fail('ENOMEM')),
  ...SKB_CHECKSUM_HELPERS,
  skb_change_type(c, ctx: number, type: bigint) {
    const skb = new Skb(c, ctx);
    if (skb.get(SK_BUFF.pkt_type) > PACKET_OTHERHOST || u32(type) > PACKET_OTHERHOST) return fail('EINVAL');
    skb.set(SK_BUFF.pkt_type, u32(type));
    return 0n;
  },
  skb_change_tail(c, ctx: number, size: bigint, flags: bigint) {
    const skb = new Skb(c, ctx);
    const length = u32(size);
    if (flags !== 0n || length > MAX_LENGTH || length < Math.max(0, skb.networkOffset)) return fail('EINVAL');
    const growth = length - skb.length;
    if (growth > skb.tailroom) return fail('ENOMEM');
    const { data } = skb;
    if (growth > 0) skb.u8.fill(0, data + skb.length, data + length);
    skb.place(data, length);
    return 0n;
  },
  skb_change_head(c, ctx: number, size: bigint, flags: bigint) {
    const skb = new Skb(c, ctx);
    const room = u32(size);
    if (flags !== 0n || skb.length + room > MAX_LENGTH) return fail('EINVAL');
    if (!skb.insert(0, room)) return fail('ENOMEM');
    // skb_reset_mac_header, skb_reset_mac_len
    skb.set(SK_BUFF_PRIVATE.macHeader, skb.data);
    return 0n;
  },
  skb_adjust_room: adjustRoom,
  skb_change_proto: changeProtocol,
  skb_vlan_push(c, ctx: number, protocol: bigint, tci: bigint) {
    const skb = new Skb(c, ctx);
    // Network order, in a register.
    const swapped = u32(protocol) & 0xffff;
    const wanted = ((swapped & 0xff) << 8) | (swapped >> 8);
    if (skb.get(SK_BUFF.vlan_present) !== 0) {
      const old = skb.get(SK_BUFF.vlan_proto);
      const oldProtocol = ((old & 0xff) << 8) | ((old >> 8) & 0xff);
      if (!skb.insert(12, VLAN_HLEN)) return fail('ENOMEM');
      skb.set(SK_BUFF_PRIVATE.macHeader, skb.data);
      skb.set16(skb.data + 12, oldProtocol);
      skb.set16(skb.data + 14, skb.get(SK_BUFF.vlan_tci));
      skb.protocol = oldProtocol;
    }
    setVlan(skb, true, isVlan(wanted) ? wanted : ETH_P_8021Q, u32(tci) & 0xffff);
    return 0n;
  },
  skb_vlan_pop(c, ctx: number) {
    const skb = new Skb(c, ctx);
    const popTag = (): { protocol: number; tci: number } | undefined => {
      if (!isVlan(skb.protocol) || skb.length < ETH_HLEN + VLAN_HLEN) return undefined;
      const { data } = skb;
      const tag = { protocol: skb.get16(data + 12), tci: skb.get16(data + 14) };
      skb.remove(12, VLAN_HLEN);
      skb.set(SK_BUFF_PRIVATE.macHeader, skb.data);
      skb.set(SK_BUFF_PRIVATE.networkHeader, skb.data + ETH_HLEN);
      skb.protocol = skb.get16(skb.data + 12);
      return tag;
    };
    if (skb.get(SK_BUFF.vlan_present) !== 0) setVlan(skb, false);
    else {
      if (!isVlan(skb.protocol)) return 0n;
      if (popTag() === undefined) return fail('ENOMEM');
    }
    // The next tag moves out of the packet.
    const next = popTag();
    if (next !== undefined) setVlan(skb, true, next.protocol, next.tci);
    return 0n;
  },
  /** A hash of the addresses and ports; the kernel's has a key that nobody knows. */
  get_hash_recalc(c, ctx: number) {
    const skb = new Skb(c, ctx);
    const known = skb.get(SK_BUFF.hash);
    if (known !== 0) return BigInt(known);
    const from = skb.data + Math.max(0, skb.networkOffset) + (skb.protocol === ETH_P_IPV6 ? 8 : 12);
    const size = skb.protocol === ETH_P_IPV6 ? 36 : 12;
    const end = Math.min(from + size, skb.data + skb.length);
    let hash = 0x811c_9dc5;
    for (let at = from; at < end; at++) hash = Math.imul(hash ^ skb.u8[at]!, 0x0100_0193) >>> 0;
    const result = hash === 0 ? 1 : hash;
    skb.set(SK_BUFF.hash, result);
    return BigInt(result);
  },
  set_hash_invalid(c, ctx: number) {
    new Skb(c, ctx).set(SK_BUFF.hash, 0);
    return 0n;
  },
  set_hash(c, ctx: number, hash: bigint) {
    new Skb(c, ctx).set(SK_BUFF.hash, u32(hash));
    return 0n;
  },
  clone_redirect(c, ctx: number, ifindex: bigint, flags: bigint) {
    if ((u64(flags) & ~1n) !== 0n) return fail('EINVAL');
    const start = packetStart(c, ctx);
    const packet = view(c).u8.slice(start, start + packetLength(c, ctx));
    c.runtime.tell({ kind: 'clone_redirect', ifindex: u32(ifindex), packet });
    // dev_get_by_index_rcu finds none.
    return fail('EINVAL');
  },
  skb_ecn_set_ce(c, ctx: number) {
    const skb = new Skb(c, ctx);
    const at = skb.data + skb.networkOffset;
    const v6 = skb.protocol === ETH_P_IPV6;
    if ((!v6 && skb.protocol !== ETH_P_IP) || skb.networkOffset + (v6 ? 40 : 20) > skb.length) return 0n;
    const { data } = view(c);
    const ecn = v6 ? (skb.u8[at + 1]! >> 4) & 3 : skb.u8[at + 1]! & 3;
    if (ecn === 0) return 0n;
    if (ecn === 3) return 1n;
    if (v6) skb.u8[at + 1] = skb.u8[at + 1]! | 0x30;
    else {
      // IP_ECN_set_ce: the header's checksum follows.
      const old = skb.u8[at + 1]!;
      skb.u8[at + 1] = old | 3;
      const sum = data.getUint16(at + 10, true);
      data.setUint16(at + 10, replace2(sum, old << 8, (old | 3) << 8), true);
    }
    return 1n;
  },
  skb_set_tstamp(c, ctx: number, time: bigint, type: bigint) {
    const skb = new Skb(c, ctx);
    if (skb.protocol !== ETH_P_IP && skb.protocol !== ETH_P_IPV6) return fail('EOPNOTSUPP');
    const kind = u32(type);
    if (kind > 2 || (kind === 0 && time !== 0n) || (kind !== 0 && time === 0n)) return fail('EINVAL');
    view(c).data.setBigUint64((ctx >>> 0) + SKB_META.tstamp, u64(time), true);
    return 0n;
  },
  // No socket sent the packet, no control group owns it, no tunnel brought it, no route chose a class or a realm.
  skb_under_cgroup: () => fail('ENOENT'),
  skb_cgroup_id: () => 0n,
  skb_ancestor_cgroup_id: () => 0n,
  skb_cgroup_classid: () => 0n,
  get_route_realm: () => 0n,
  skb_get_tunnel_key(c, _ctx: number, key: number, size: number) {
    view(c).u8.fill(0, key >>> 0, (key >>> 0) + (size >>> 0));
    return fail('EINVAL');
  },
  skb_get_tunnel_opt(c, _ctx: number, option: number, size: number) {
    view(c).u8.fill(0, option >>> 0, (option >>> 0) + (size >>> 0));
    return fail('ENOENT');
  },
  skb_get_xfrm_state(c, _ctx: number, _index: bigint, state: number, size: number) {
    view(c).u8.fill(0, state >>> 0, (state >>> 0) + (size >>> 0));
    return fail('EINVAL');
  },
  get_socket_cookie: () => 0n,
  get_netns_cookie: () => 1n,
  /** overflowuid: no socket. */
  get_socket_uid: () => 65534n,
};
