/** Checksums in headers of a packet: bpf_l3_csum_replace, bpf_l4_csum_replace (net/core/filter.c). */
import { ERRNO } from '../../errors.ts';
import { replace2, replace4, replaceByDiff } from './checksum.ts';
import { fail, type HelperContext, type HelperImpl, u32, u64, view } from './context.ts';
import { packetLength, packetPointer } from './packet.ts';
import { MAX_OFFSET } from './skb-buffer.ts';

const HEADER_FIELD_MASK = 0xfn;
const BPF_F_PSEUDO_HDR = 1n << 4n;
const BPF_F_MARK_MANGLED_0 = 1n << 5n;
const BPF_F_MARK_ENFORCE = 1n << 6n;

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

export const SKB_CHECKSUM_HELPERS: Readonly<Record<string, HelperImpl>> = {
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
};
