/** Room for other headers: bpf_skb_adjust_room, bpf_skb_change_proto (net/core/filter.c). */
import { SK_BUFF, SK_BUFF_PRIVATE } from '../../sk-buff.ts';
import { fail, type HelperContext, s32, u32, u64 } from './context.ts';
import { ETH_P_IP, ETH_P_IPV6, MAX_LENGTH, Skb } from './skb-buffer.ts';

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
export function adjustRoom(c: HelperContext, ctx: number, by: bigint, mode: bigint, given: bigint): bigint {
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
export function changeProtocol(c: HelperContext, ctx: number, given: bigint, flags: bigint): bigint {
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
