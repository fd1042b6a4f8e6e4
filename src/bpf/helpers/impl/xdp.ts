/** XDP frames and redirection (net/core/filter.c). There are no devices: a redirection is the action and a note. */
import { ERRNO } from '../../errors.ts';
import { XDP_MD, XDP_MD_PRIVATE } from '../../machine/xdp.ts';
import { fail, type HelperContext, type HelperImpl, mapOf, s32, u32, u64, view } from './context.ts';
import { isXdp, loadPacketBytes, packetLength, storePacketBytes } from './packet.ts';

/** struct xdp_frame, which may come to lie at the start of the room. */
const XDP_FRAME_SIZE = 40;
const ETH_HLEN = 14;
const MAX_META = 252;
const XDP_REDIRECT = 4n;
const TC_ACT_SHOT = 2n;
const TC_ACT_REDIRECT = 7n;
const BPF_F_INGRESS = 1n;
/** struct bpf_redir_neigh */
const REDIR_NEIGH_SIZE = 20;
const ACTION_MASK = 3n;
const BPF_F_BROADCAST = 8n;
const BPF_F_EXCLUDE_INGRESS = 16n;

interface Frame {
  readonly data: number;
  readonly dataEnd: number;
  readonly meta: number;
  readonly first: number;
  readonly last: number;
}

function frameOf(c: HelperContext, ctx: number): Frame {
  const get = (field: number): number => view(c).data.getUint32((ctx >>> 0) + field, true);
  return {
    data: get(XDP_MD.data),
    dataEnd: get(XDP_MD.data_end),
    meta: get(XDP_MD.data_meta),
    first: get(XDP_MD_PRIVATE.dataHardStart) + XDP_FRAME_SIZE,
    last: get(XDP_MD_PRIVATE.frameEnd),
  };
}

function set(c: HelperContext, ctx: number, field: number, value: number): void {
  view(c).data.setUint32((ctx >>> 0) + field, value, true);
}

export const XDP_HELPERS: Readonly<Record<string, HelperImpl>> = {
  xdp_adjust_head(c, ctx: number, delta: bigint) {
    const { data, dataEnd, meta, first } = frameOf(c, ctx);
    const metaSize = meta > data ? 0 : data - meta;
    const moved = data + s32(delta);
    if (moved < first + metaSize || moved > dataEnd - ETH_HLEN) return fail('EINVAL');
    view(c).u8.copyWithin(moved - metaSize, meta, meta + metaSize);
    set(c, ctx, XDP_MD.data_meta, moved - metaSize);
    set(c, ctx, XDP_MD.data, moved);
    return 0n;
  },
  xdp_adjust_tail(c, ctx: number, delta: bigint) {
    const { data, dataEnd, last } = frameOf(c, ctx);
    const moved = dataEnd + s32(delta);
    if (moved > last || moved < data + ETH_HLEN) return fail('EINVAL');
    if (moved > dataEnd) view(c).u8.fill(0, dataEnd, moved);
    set(c, ctx, XDP_MD.data_end, moved);
    return 0n;
  },
  xdp_adjust_meta(c, ctx: number, delta: bigint) {
    const { data, meta, first } = frameOf(c, ctx);
    const moved = meta + s32(delta);
    if (moved < first || moved > data) return fail('EINVAL');
    const size = data - moved;
    if ((size & 3) !== 0 || size > MAX_META) return fail('EACCES');
    set(c, ctx, XDP_MD.data_meta, moved);
    return 0n;
  },
  xdp_get_buff_len: (c, ctx: number) => BigInt(isXdp(c) ? packetLength(c, ctx) : 0),
  xdp_load_bytes: (c, ctx: number, offset: bigint, to: number, size: number) =>
    BigInt(loadPacketBytes(c, ctx, u32(offset), to >>> 0, size >>> 0)),
  xdp_store_bytes: (c, ctx: number, offset: bigint, from: number, size: number) =>
    BigInt(storePacketBytes(c, ctx, u32(offset), from >>> 0, size >>> 0)),
  redirect(c, ifindex: bigint, flags: bigint) {
    const wanted = u64(flags);
    if (isXdp(c) ? wanted !== 0n : (wanted & ~BPF_F_INGRESS) !== 0n) return isXdp(c) ? 0n : TC_ACT_SHOT;
    c.runtime.tell({ kind: 'redirect', ifindex: u32(ifindex), flags: wanted });
    return isXdp(c) ? XDP_REDIRECT : TC_ACT_REDIRECT;
  },
  redirect_neigh(c, ifindex: bigint, params: number, size: number, flags: bigint) {
    const length = size >>> 0;
    if ((length !== 0 && length < REDIR_NEIGH_SIZE) || flags !== 0n) return TC_ACT_SHOT;
    const at = params >>> 0;
    const nextHop = length === 0 ? undefined : view(c).u8.slice(at, at + REDIR_NEIGH_SIZE);
    c.runtime.tell({ kind: 'redirect_neigh', ifindex: u32(ifindex), nextHop });
    return TC_ACT_REDIRECT;
  },
  redirect_peer(c, ifindex: bigint, flags: bigint) {
    if (flags !== 0n) return TC_ACT_SHOT;
    c.runtime.tell({ kind: 'redirect_peer', ifindex: u32(ifindex) });
    return TC_ACT_REDIRECT;
  },
  /** __bpf_xdp_redirect_map: the flags' action where the slot is empty. */
  redirect_map(c, address: number, key: bigint, flags: bigint) {
    const map = mapOf(c, address);
    const wanted = u64(flags);
    const isDeviceMap = map.spec.type === 'devmap' || map.spec.type === 'devmap_hash';
    const known = ACTION_MASK | (isDeviceMap ? BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS : 0n);
    if ((wanted & ~known) !== 0n) return 0n;
    const index = u32(key);
    const broadcast = (wanted & BPF_F_BROADCAST) !== 0n;
    const found = map.lookup(new Uint8Array(Uint32Array.of(index).buffer)) !== undefined;
    if (!found && !broadcast) return wanted & ACTION_MASK;
    c.runtime.tell({ kind: 'redirect_map', map: map.id, key: index, flags: wanted });
    return XDP_REDIRECT;
  },
  // No device has any number.
  fib_lookup(c, _ctx: number, params: number, size: number, flags: bigint) {
    const FIB_LOOKUP_SIZE = 64;
    const KNOWN = 0x3fn;
    if (size >>> 0 < FIB_LOOKUP_SIZE || (u64(flags) & ~KNOWN) !== 0n) return fail('EINVAL');
    const family = view(c).data.getUint8(params >>> 0);
    const [AF_INET, AF_INET6] = [2, 10];
    return family === AF_INET || family === AF_INET6 ? fail('ENODEV') : fail('EAFNOSUPPORT');
  },
  check_mtu(_c, _ctx: number, _ifindex: bigint, _mtu: number, _diff: bigint, flags: bigint) {
    return (u64(flags) & ~1n) !== 0n ? fail('EINVAL') : BigInt(-ERRNO.ENODEV);
  },
};
