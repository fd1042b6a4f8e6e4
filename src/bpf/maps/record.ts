/** Values with special fields (`struct btf_record`, kernel/bpf/syscall.c, include/linux/bpf.h): copied around, never over. */
import type { MapRecord } from './map-spec.ts';

/** bpf_obj_init: every special field becomes zero. */
export function clearFields(bytes: Uint8Array, at: number, record: MapRecord): void {
  for (const { offset, size } of record.fields) bytes.fill(0, at + offset, at + offset + size);
}

/** bpf_obj_memcpy: `size` bytes of a value but for its special fields. */
export function copyAround(
  target: Uint8Array,
  to: number,
  source: Uint8Array,
  from: number,
  size: number,
  record: MapRecord,
): void {
  let at = 0;
  const copy = (end: number): void => {
    if (end > at) target.set(source.subarray(from + at, from + end), to + at);
  };
  for (const field of [...record.fields].sort((a, b) => a.offset - b.offset)) {
    copy(field.offset);
    at = field.offset + field.size;
  }
  copy(size);
}
