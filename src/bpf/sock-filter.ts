/** Instructions of classic BPF (struct sock_filter, include/uapi/linux/filter.h). */

import { bytesOf, checkArgument } from './arguments.ts';

const WHOLE = bytesOf('a Uint8Array of whole instructions, 8 bytes each', 8);

/** struct sock_filter: `k` is unsigned. */
export interface SockFilter {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

export const BPF_MAXINSNS = 4096;
export const BPF_MEMWORDS = 16;

export function decodeSockFilters(bytes: Uint8Array): SockFilter[] {
  checkArgument('decodeSockFilters()', 'bytes', bytes, WHOLE);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const filters: SockFilter[] = [];
  for (let at = 0; at < bytes.length; at += 8) {
    filters.push({
      code: view.getUint16(at, true),
      jt: view.getUint8(at + 2),
      jf: view.getUint8(at + 3),
      k: view.getUint32(at + 4, true),
    });
  }
  return filters;
}
