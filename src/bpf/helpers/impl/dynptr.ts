/** Dynptrs (kernel/bpf/helpers.c: struct bpf_dynptr_kern): { u64 data; u32 size, type and read-only bit; u32 offset }. */

import { ERRNO } from '../../errors.ts';
import { commitRecord, RingBuffer } from '../../maps/ringbuf.ts';
import { fail, type HelperContext, type HelperImpl, mapOf, u32, u64, view } from './context.ts';
import { loadPacketBytes, packetLength, packetPointer, storePacketBytes } from './packet.ts';

const MAX_SIZE = (1 << 24) - 1;
const SIZE_MASK = 0xff_ffff;
const TYPE_SHIFT = 28;
const TYPE_MASK = 7;
const RDONLY = 0x8000_0000;
export const DYNPTR_TYPE = { local: 1, ringbuf: 2, skb: 3, xdp: 4 } as const;

interface Dynptr {
  readonly data: number;
  readonly type: number;
  readonly readOnly: boolean;
  readonly size: number;
  readonly offset: number;
}

/** Undefined for one that is null. */
export function readDynptr(c: HelperContext, pointer: number): Dynptr | undefined {
  const { data } = view(c);
  const at = pointer >>> 0;
  const address = data.getUint32(at, true);
  if (address === 0) return undefined;
  const size = data.getUint32(at + 8, true);
  return {
    data: address,
    size: size & SIZE_MASK,
    type: (size >>> TYPE_SHIFT) & TYPE_MASK,
    readOnly: (size & RDONLY) !== 0,
    offset: data.getUint32(at + 12, true),
  };
}

/** bpf_dynptr_init; with address 0 bpf_dynptr_set_null. */
export function writeDynptr(
  c: HelperContext,
  pointer: number,
  address: number,
  type: number,
  size: number,
  offset = 0,
  readOnly = false,
): void {
  const { data } = view(c);
  const at = pointer >>> 0;
  data.setBigUint64(at, BigInt(address >>> 0), true);
  const word = address === 0 ? 0 : (size | (type << TYPE_SHIFT) | (readOnly ? RDONLY : 0)) >>> 0;
  data.setUint32(at + 8, word, true);
  data.setUint32(at + 12, address === 0 ? 0 : offset, true);
}

const setNull = (c: HelperContext, pointer: number): void => writeDynptr(c, pointer, 0, 0, 0);
const isWithin = ({ size }: Dynptr, offset: number, length: number): boolean =>
  length <= size && offset <= size - length;
const isPacket = ({ type }: Dynptr): boolean => type === DYNPTR_TYPE.skb || type === DYNPTR_TYPE.xdp;

function commit(c: HelperContext, pointer: number, flags: bigint, isDiscarded: boolean): undefined {
  const dynptr = readDynptr(c, pointer);
  if (dynptr === undefined) return;
  commitRecord(c.memory, dynptr.data, isDiscarded, Number(u64(flags) & 3n));
  setNull(c, pointer);
}

/** Types that may not write to a packet get one that is only read (bpf_dynptr_from_skb_rdonly). */
const WRITES_PACKETS = new Set(['sched_cls', 'sched_act', 'lwt_xmit', 'sk_skb', 'sk_msg', 'xdp']);

function fromPacket(c: HelperContext, ctx: number, flags: bigint, pointer: number, type: number): number {
  if (flags !== 0n) {
    setNull(c, pointer);
    return -ERRNO.EINVAL;
  }
  writeDynptr(c, pointer, ctx, type, packetLength(c, ctx), 0, !WRITES_PACKETS.has(c.program.type));
  return 0;
}

/** bpf_dynptr_slice: address within the memory behind it, or of the buffer that it was copied into. */
function slice(
  c: HelperContext,
  pointer: number,
  at: bigint,
  buffer: number,
  size: number,
  write: boolean,
): number {
  const dynptr = readDynptr(c, pointer);
  const offset = u32(at);
  const length = size >>> 0;
  if (dynptr === undefined || (write && dynptr.readOnly) || !isWithin(dynptr, offset, length)) return 0;
  if (!isPacket(dynptr)) return dynptr.data + dynptr.offset + offset;
  const inPlace = packetPointer(c, dynptr.data, dynptr.offset + offset, length);
  if (inPlace !== 0) return inPlace;
  if (buffer === 0) return 0;
  return loadPacketBytes(c, dynptr.data, dynptr.offset + offset, buffer >>> 0, length) === 0
    ? buffer >>> 0
    : 0;
}

export const DYNPTR_HELPERS: Readonly<Record<string, HelperImpl>> = {
  dynptr_from_mem(c, data: number, size: number, flags: bigint, pointer: number) {
    const error = size >>> 0 > MAX_SIZE ? 'E2BIG' : flags !== 0n ? 'EINVAL' : undefined;
    if (error !== undefined) {
      setNull(c, pointer);
      return fail(error);
    }
    writeDynptr(c, pointer, data >>> 0, DYNPTR_TYPE.local, size >>> 0);
    return 0n;
  },
  ringbuf_reserve_dynptr(c, map: number, size: bigint, flags: bigint, pointer: number) {
    const ring = mapOf(c, map);
    const length = u32(size);
    const error = flags !== 0n ? 'EINVAL' : length > MAX_SIZE ? 'E2BIG' : undefined;
    const record = error === undefined && ring instanceof RingBuffer ? ring.reserve(length, c.cpu) : 0;
    if (record === 0) {
      setNull(c, pointer);
      return fail(error ?? 'EINVAL');
    }
    writeDynptr(c, pointer, record, DYNPTR_TYPE.ringbuf, length);
    return 0n;
  },
  ringbuf_submit_dynptr: (c, pointer: number, flags: bigint) => commit(c, pointer, flags, false),
  ringbuf_discard_dynptr: (c, pointer: number, flags: bigint) => commit(c, pointer, flags, true),
  dynptr_read(c, to: number, size: number, pointer: number, at: bigint, flags: bigint) {
    const dynptr = readDynptr(c, pointer);
    const [offset, length] = [u32(at), size >>> 0];
    if (dynptr === undefined || flags !== 0n) return fail('EINVAL');
    if (!isWithin(dynptr, offset, length)) return fail('E2BIG');
    if (isPacket(dynptr)) {
      return BigInt(loadPacketBytes(c, dynptr.data, dynptr.offset + offset, to >>> 0, length));
    }
    const from = dynptr.data + dynptr.offset + offset;
    view(c).u8.copyWithin(to >>> 0, from, from + length);
    return 0n;
  },
  dynptr_write(c, pointer: number, at: bigint, from: number, size: number, flags: bigint) {
    const dynptr = readDynptr(c, pointer);
    const [offset, length] = [u32(at), size >>> 0];
    if (dynptr === undefined || dynptr.readOnly) return fail('EINVAL');
    if (!isWithin(dynptr, offset, length)) return fail('E2BIG');
    if (dynptr.type === DYNPTR_TYPE.skb ? (u64(flags) & ~3n) !== 0n : flags !== 0n) return fail('EINVAL');
    if (isPacket(dynptr)) {
      return BigInt(storePacketBytes(c, dynptr.data, dynptr.offset + offset, from >>> 0, length));
    }
    view(c).u8.copyWithin(dynptr.data + dynptr.offset + offset, from >>> 0, (from >>> 0) + length);
    return 0n;
  },
  dynptr_data(c, pointer: number, at: bigint, size: number) {
    const dynptr = readDynptr(c, pointer);
    const offset = u32(at);
    if (dynptr === undefined || dynptr.readOnly || isPacket(dynptr)) return 0;
    return isWithin(dynptr, offset, size >>> 0) ? dynptr.data + dynptr.offset + offset : 0;
  },
};

export const DYNPTR_KFUNCS: Readonly<Record<string, HelperImpl>> = {
  bpf_dynptr_from_skb: (c, ctx: number, flags: bigint, pointer: number) =>
    fromPacket(c, ctx >>> 0, flags, pointer, DYNPTR_TYPE.skb),
  bpf_dynptr_from_xdp: (c, ctx: number, flags: bigint, pointer: number) =>
    fromPacket(c, ctx >>> 0, flags, pointer, DYNPTR_TYPE.xdp),
  bpf_dynptr_slice: (c, pointer: number, at: bigint, buffer: number, size: number) =>
    slice(c, pointer, at, buffer, size, false),
  bpf_dynptr_slice_rdwr: (c, pointer: number, at: bigint, buffer: number, size: number) =>
    slice(c, pointer, at, buffer, size, true),
  bpf_dynptr_adjust(c, pointer: number, from: bigint, to: bigint) {
    const dynptr = readDynptr(c, pointer);
    const [start, end] = [u32(from), u32(to)];
    if (dynptr === undefined || start > end) return -ERRNO.EINVAL;
    const { size, data, type, offset, readOnly } = dynptr;
    if (start > size || end > size) return -ERRNO.ERANGE;
    writeDynptr(c, pointer, data, type, end - start, offset + start, readOnly);
    return 0;
  },
  bpf_dynptr_is_null: (c, pointer: number) => (readDynptr(c, pointer) === undefined ? 1 : 0),
  bpf_dynptr_is_rdonly: (c, pointer: number) => (readDynptr(c, pointer)?.readOnly === true ? 1 : 0),
  bpf_dynptr_size: (c, pointer: number) => readDynptr(c, pointer)?.size ?? 2 ** 32 - ERRNO.EINVAL,
  bpf_dynptr_clone(c, pointer: number, clone: number) {
    const dynptr = readDynptr(c, pointer);
    if (dynptr === undefined) {
      setNull(c, clone);
      return -ERRNO.EINVAL;
    }
    const { data, type, size, offset, readOnly } = dynptr;
    writeDynptr(c, clone, data, type, size, offset, readOnly);
    return 0;
  },
};
