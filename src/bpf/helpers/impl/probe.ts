/** Reads of any address (kernel/trace/bpf_trace.c, mm/maccess.c): what is in the memory is read, everything else is a fault. */
import { fail, type HelperContext, type HelperImpl, isMemory, u64, view } from './context.ts';

/** copy_from_kernel_nofault; the destination is zeroed on a fault. */
function probeRead(c: HelperContext, to: number, size: number, from: bigint): bigint {
  const { u8 } = view(c);
  const start = to >>> 0;
  const length = size >>> 0;
  if (length === 0) return 0n;
  if (!isMemory(c, from, length)) {
    u8.fill(0, start, start + length);
    return fail('EFAULT');
  }
  const at = Number(u64(from));
  u8.copyWithin(start, at, at + length);
  return 0n;
}

/** strncpy_from_kernel_nofault: the length with its NUL. */
export function probeReadStr(c: HelperContext, to: number, size: number, from: bigint): bigint {
  const { u8 } = view(c);
  const start = to >>> 0;
  const length = size >>> 0;
  if (length === 0) return 0n;
  if (!isMemory(c, from, 1)) {
    u8.fill(0, start, start + length);
    return fail('EFAULT');
  }
  const at = Number(u64(from));
  for (let i = 0; i < length; i++) {
    if (at + i >= u8.length) {
      u8.fill(0, start, start + length);
      return fail('EFAULT');
    }
    const byte = u8[at + i]!;
    u8[start + i] = byte;
    if (byte === 0) return BigInt(i + 1);
  }
  u8[start + length - 1] = 0;
  return BigInt(length);
}

export const PROBE_HELPERS: Readonly<Record<string, HelperImpl>> = {
  probe_read: probeRead,
  probe_read_kernel: probeRead,
  probe_read_user: probeRead,
  probe_read_str: probeReadStr,
  probe_read_kernel_str: probeReadStr,
  probe_read_user_str: probeReadStr,
  copy_from_user: probeRead,
  copy_from_user_task: (c, to: number, size: number, from: bigint, _task: number, flags: bigint) =>
    flags === 0n ? probeRead(c, to, size, from) : fail('EINVAL'),
};
