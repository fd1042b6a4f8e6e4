/** Packets of `struct __sk_buff` (net/core/filter.c, net/core/skbuff.c). The bytes lie in one piece, within the block of the test run. */
import { ERRNO } from '../../errors.ts';
import { SK_BUFF, SK_BUFF_PRIVATE } from '../../sk-buff.ts';
import { add, fold, replace2, replace4, replaceByDiff } from './checksum.ts';
import { fail, type HelperContext, type HelperImpl, s32, u32, u64, view } from './context.ts';
import { loadPacketBytes, packetLength, packetPointer, packetStart, storePacketBytes } from './packet.ts';

const ETH_HLEN = 14;
const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;
const ETH_P_8021Q = 0x8100;
const ETH_P_8021AD = 0x88a8;
const VLAN_HLEN = 4;
/** The block of a test run, but for struct skb_shared_info behind the packet. */
const ROOM = 4096 - 320;
const MAX_LENGTH = 65536;
const PACKET_OTHERHOST = 3;
const HEADER_FIELD_MASK = 0xfn;
const BPF_F_PSEUDO_HDR = 1n << 4n;
const BPF_F_MARK_MANGLED_0 = 1n << 5n;
const BPF_F_MARK_ENFORCE = 1n << 6n;
const BPF_F_INVALIDATE_HASH = 2n;
const MAX_OFFSET = 0xffff;
const SKB_META = { dataMeta: 140, tstamp: 152, tstampType: 180 } as const;

class Skb {
  readonly #c: HelperContext;
  readonly #at: number;

  constructor(c: HelperContext, ctx: number) {
    this.#c = c;
    this.#at = ctx >>> 0;
  }

  get(field: number): number {
    return view(this.#c).data.getUint32(this.#at + field, true);
  }
  set(field: number, value: number): void {
    view(this.#c).data.setUint32(this.#at + field, value >>> 0, true);
  }
  get data(): number {
    return this.get(SK_BUFF.data);
  }
  get length(): number {
    return this.get(SK_BUFF.len);
  }
  get headroom(): number {
    return this.data - this.get(SK_BUFF_PRIVATE.head);
  }
  /** Only a packet with room before it lies in a block of its own. */
  get tailroom(): number {
    const head = this.get(SK_BUFF_PRIVATE.head);
    return head === this.get(SK_BUFF_PRIVATE.macHeader)
      ? 0
      : Math.max(0, head + ROOM - this.data - this.length);
  }
  get networkOffset(): number {
    return this.get(SK_BUFF_PRIVATE.networkHeader) - this.data;
  }
  get macLength(): number {
    return this.get(SK_BUFF_PRIVATE.networkHeader) - this.get(SK_BUFF_PRIVATE.macHeader);
  }
  /** Host order. */
  get protocol(): number {
    return view(this.#c).data.getUint16(this.#at + SK_BUFF.protocol, false);
  }
  set protocol(value: number) {
    view(this.#c).data.setUint16(this.#at + SK_BUFF.protocol, value, false);
  }
  get u8(): Uint8Array {
    return view(this.#c).u8;
  }

  /** New bounds of the packet; metadata before it is gone (bpf_compute_data_end). */
  place(data: number, length: number): void {
    this.set(SK_BUFF.data, data);
    this.set(SK_BUFF.len, length);
    this.set(SK_BUFF.data_end, data + length);
    this.set(SK_BUFF_PRIVATE.tail, data + length);
    this.set(SKB_META.dataMeta, data);
  }

  /** Room of `size` bytes before the packet, moving it back where that is needed (skb_cow_head). */
  makeHeadroom(size: number): boolean {
    const missing = size - this.headroom;
    if (missing <= 0) return true;
    if (missing > this.tailroom) return false;
    const { data, length } = this;
    const mac = this.get(SK_BUFF_PRIVATE.macHeader);
    const network = this.get(SK_BUFF_PRIVATE.networkHeader);
    const from = Math.min(mac, data);
    this.u8.copyWithin(from + missing, from, data + length);
    this.place(data + missing, length);
    this.set(SK_BUFF_PRIVATE.macHeader, mac + missing);
    this.set(SK_BUFF_PRIVATE.networkHeader, network + missing);
    return true;
  }

  /** bpf_skb_generic_push: `size` zero bytes at `offset`. */
  insert(offset: number, size: number): boolean {
    if (!this.makeHeadroom(size)) return false;
    const { data, length } = this;
    const start = data - size;
    this.u8.copyWithin(start, data, data + offset);
    this.u8.fill(0, start + offset, start + offset + size);
    this.place(start, length + size);
    return true;
  }

  /** bpf_skb_generic_pop */
  remove(offset: number, size: number): boolean {
    const { data, length } = this;
    if (offset + size > length) return false;
    this.u8.copyWithin(data + size, data, data + offset);
    this.place(data + size, length - size);
    return true;
  }

  set16(address: number, value: number): void {
    view(this.#c).data.setUint16(address, value, false);
  }
  get16(address: number): number {
    return view(this.#c).data.getUint16(address, false);
  }
}

/** bpf_try_make_writable: all of it is, up to the end. */
const canWrite = (c: HelperContext, ctx: number, size: number): boolean => size <= packetLength(c, ctx);

interface ChecksumChange {
  readonly ctx: number;
  readonly offset: number;
  readonly from: bigint;
  readonly to: bigint;
  readonly flags: bigint;
}

/** The checksum field's address, or -errno. */
function checksumAt(c: HelperContext, { ctx, offset }: ChecksumChange): number {
  if (offset > MAX_OFFSET || (offset & 1) !== 0 || !canWrite(c, ctx, offset + 2)) return -ERRNO.EFAULT;
  return packetPointer(c, ctx, offset, 2);
}

/** The new checksum, or undefined for a size that is none. */
function changed(old: number, { from, to, flags }: ChecksumChange): number | undefined {
  switch (flags & HEADER_FIELD_MASK) {
    case 0n:
      return u64(from) === 0n ? replaceByDiff(old, u32(to)) : undefined;
    case 2n:
      return replace2(old, u32(from), u32(to));
    case 4n:
      return replace4(old, u32(from), u32(to));
    default:
      return undefined;
  }
}

function replaceChecksum(
  c: HelperContext,
  change: ChecksumChange,
  mangled: boolean,
  enforce: boolean,
): bigint {
  const at = checksumAt(c, change);
  if (at < 0) return BigInt(at);
  const { data } = view(c);
  const old = data.getUint16(at, true);
  if (mangled && !enforce && old === 0) return 0n;
  const sum = changed(old, change);
  if (sum === undefined) return fail('EINVAL');
  data.setUint16(at, mangled && sum === 0 ? 0xffff : sum, true);
  return 0n;
}

const NET = 0;
const MAC = 1;
const ADJ = {
  fixedGso: 1n,
  encapL3v4: 2n,
  encapL3v6: 4n,
  encapL4Gre: 8n,
  encapL4Udp: 16n,
  noCsumReset: 32n,
  encapL2Eth: 64n,
  decapL3v4: 128n,
  decapL3v6: 256n,
} as const;
const ADJ_MASK = 0x1ffn | (0xffn << 56n);

/** bpf_skb_adjust_room */
function adjustRoom(c: HelperContext, ctx: number, by: bigint, mode: bigint, given: bigint): bigint {
  const skb = new Skb(c, ctx);
  const flags = u64(given);
  const delta = s32(by);
  const size = Math.abs(delta);
  const shrink = delta < 0;
  if ((flags & ~ADJ_MASK) !== 0n) return fail('EINVAL');
  if (size > 0xfff) return fail('EFAULT');
  const { protocol } = skb;
  if (protocol !== ETH_P_IP && protocol !== ETH_P_IPV6) return fail('ENOTSUPP');
  const base = protocol === ETH_P_IP ? 20 : 40;
  let least = base;
  let offset = skb.macLength;
  if (u32(mode) === NET) offset += base;
  else if (u32(mode) !== MAC) return fail('ENOTSUPP');
  const decap = flags & (ADJ.decapL3v4 | ADJ.decapL3v6);
  if (decap !== 0n) {
    if (!shrink || decap === (ADJ.decapL3v4 | ADJ.decapL3v6)) return fail('EINVAL');
    least = decap === ADJ.decapL3v4 ? 20 : 40;
  }
  const current = skb.length - skb.networkOffset;
  if (shrink ? size >= current || current - size < least : skb.length + size > MAX_LENGTH)
    return fail('ENOTSUPP');
  const encap = flags & (ADJ.encapL3v4 | ADJ.encapL3v6);
  if (!shrink && encap !== 0n) {
    const both = encap === (ADJ.encapL3v4 | ADJ.encapL3v6);
    const twoTunnels = (flags & ADJ.encapL4Gre) !== 0n && (flags & ADJ.encapL4Udp) !== 0n;
    if (both || twoTunnels) return fail('EINVAL');
  }
  const mac = skb.macLength;
  // skb_cow_head: more headroom than there is.
  if (shrink ? !skb.remove(offset, size) : !skb.insert(offset, size)) return fail('ENOMEM');
  const { data } = skb;
  skb.set(SK_BUFF_PRIVATE.macHeader, data);
  skb.set(SK_BUFF_PRIVATE.networkHeader, data + mac);
  if (!shrink && encap !== 0n) skb.protocol = encap === ADJ.encapL3v4 ? ETH_P_IP : ETH_P_IPV6;
  if (shrink && decap !== 0n) skb.protocol = decap === ADJ.decapL3v4 ? ETH_P_IP : ETH_P_IPV6;
  return 0n;
}

const IPV6_LONGER = 20;

/** bpf_skb_change_proto: room for the other header, or less; writing it is up to the program. */
function changeProtocol(c: HelperContext, ctx: number, given: bigint, flags: bigint): bigint {
  if (flags !== 0n) return fail('EINVAL');
  const skb = new Skb(c, ctx);
  // Network order, in a register.
  const swapped = u32(given) & 0xffff;
  const wanted = ((swapped & 0xff) << 8) | (swapped >> 8);
  const { protocol, macLength: mac } = skb;
  if (protocol === ETH_P_IP && wanted === ETH_P_IPV6) {
    if (skb.length + IPV6_LONGER > MAX_LENGTH || !skb.insert(mac, IPV6_LONGER)) return fail('ENOMEM');
  } else if (protocol === ETH_P_IPV6 && wanted === ETH_P_IP) {
    if (skb.length < mac + IPV6_LONGER) return fail('ENOMEM');
    skb.remove(mac, IPV6_LONGER);
  } else return fail('ENOTSUPP');
  const { data } = skb;
  skb.set(SK_BUFF_PRIVATE.macHeader, data);
  skb.set(SK_BUFF_PRIVATE.networkHeader, data + mac);
  skb.protocol = wanted;
  skb.set(SK_BUFF.hash, 0);
  return 0n;
}

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
  l3_csum_replace(c, ctx: number, offset: bigint, from: bigint, to: bigint, given: bigint) {
    const flags = u64(given);
    if ((flags & ~HEADER_FIELD_MASK) !== 0n) return fail('EINVAL');
    return replaceChecksum(c, { ctx, offset: u32(offset), from, to, flags }, false, false);
  },
  l4_csum_replace(c, ctx: number, offset: bigint, from: bigint, to: bigint, given: bigint) {
    const flags = u64(given);
    const known = HEADER_FIELD_MASK | BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0 | BPF_F_MARK_ENFORCE;
    if ((flags & ~known) !== 0n) return fail('EINVAL');
    const mangled = (flags & BPF_F_MARK_MANGLED_0) !== 0n;
    const enforce = (flags & BPF_F_MARK_ENFORCE) !== 0n;
    return replaceChecksum(c, { ctx, offset: u32(offset), from, to, flags }, mangled, enforce);
  },
  // The packet has CHECKSUM_NONE.
  csum_update: () => fail('ENOTSUPP'),
  csum_level: (_c, _ctx: number, level: bigint) =>
    u64(level) === 0n ? fail('EACCES') : u64(level) <= 3n ? 0n : fail('EINVAL'),
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

export { add, fold };
