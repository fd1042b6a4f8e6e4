/** Bytes of the packet behind a context, `struct __sk_buff` or `struct xdp_md`: all of them lie in one piece. */
import { ERRNO } from '../../errors.ts';
import { XDP_MD } from '../../machine/xdp.ts';
import { SK_BUFF } from '../../sk-buff.ts';
import { type HelperContext, view } from './context.ts';

export const isXdp = (c: HelperContext): boolean => c.program.type === 'xdp';

export function packetStart(c: HelperContext, ctx: number): number {
  return view(c).data.getUint32((ctx >>> 0) + (isXdp(c) ? XDP_MD.data : SK_BUFF.data), true);
}

export function packetLength(c: HelperContext, ctx: number): number {
  const { data } = view(c);
  const at = ctx >>> 0;
  if (!isXdp(c)) return data.getUint32(at + SK_BUFF.len, true);
  return data.getUint32(at + XDP_MD.data_end, true) - data.getUint32(at + XDP_MD.data, true);
}

/** Address of bytes of the packet, or 0 where it has not as many. */
export function packetPointer(c: HelperContext, ctx: number, offset: number, size: number): number {
  return offset + size <= packetLength(c, ctx) ? packetStart(c, ctx) + offset : 0;
}

const INT_MAX = 0x7fff_ffff;
const XDP_MAX = 0xffff;

/** 0 or -errno (__bpf_skb_load_bytes, __bpf_xdp_load_bytes). */
export function loadPacketBytes(
  c: HelperContext,
  ctx: number,
  offset: number,
  to: number,
  size: number,
): number {
  const from = packetPointer(c, ctx, offset, size);
  const { u8 } = view(c);
  if (isXdp(c)) {
    if (offset > XDP_MAX || size > XDP_MAX) return -ERRNO.EFAULT;
    if (from === 0) return -ERRNO.EINVAL;
  } else if (offset > INT_MAX || from === 0) {
    u8.fill(0, to, to + size);
    return -ERRNO.EFAULT;
  }
  u8.copyWithin(to, from, from + size);
  return 0;
}

/** 0 or -errno (__bpf_skb_store_bytes, __bpf_xdp_store_bytes). */
export function storePacketBytes(
  c: HelperContext,
  ctx: number,
  offset: number,
  from: number,
  size: number,
): number {
  const to = packetPointer(c, ctx, offset, size);
  if (isXdp(c)) {
    if (offset > XDP_MAX || size > XDP_MAX) return -ERRNO.EFAULT;
    if (to === 0) return -ERRNO.EINVAL;
  } else if (offset > INT_MAX || to === 0) return -ERRNO.EFAULT;
  view(c).u8.copyWithin(to, from, from + size);
  return 0;
}
