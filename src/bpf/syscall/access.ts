/** What descriptors may be used for (bpf_get_file_flag of kernel/bpf/syscall.c). */
import { MAP_FLAG } from '../maps/map-spec.ts';

/** By BPF_F_RDONLY and BPF_F_WRONLY; undefined for both at once. */
export function accessOf(flags: number): { canRead: boolean; canWrite: boolean } | undefined {
  const isReadOnly = (flags & MAP_FLAG.BPF_F_RDONLY) !== 0;
  const isWriteOnly = (flags & MAP_FLAG.BPF_F_WRONLY) !== 0;
  return isReadOnly && isWriteOnly ? undefined : { canRead: !isWriteOnly, canWrite: !isReadOnly };
}
