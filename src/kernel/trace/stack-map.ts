/**
 * Stack maps of a traced process (`bpf_get_stackid`). The process knows a stack by a number only; whoever reads the map has its frames.
 * So a bucket holds, in the place of addresses, one number: the stack's, and how many of its frames are left out.
 */
import { STACK_BUCKET } from '../../bpf/maps/map-layout.ts';

export { STACK_BUCKET };

/** Flags of bpf_get_stackid. */
export const STACKID = {
  skipMask: 0xff,
  userStack: 1 << 8,
  fastCompare: 1 << 9,
  reuse: 1 << 10,
} as const;

const SKIP_SHIFT = 24;

/** `stack` is below 2^24. */
export const stackNumber = (stack: number, skip: number): number => ((skip << SKIP_SHIFT) | stack) >>> 0;

/** The stack of a value of such a map, and how many of its first frames are left out. */
export function stackOf(value: Uint8Array): { readonly stack: number; readonly skip: number } {
  const number = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
  return { stack: number & ((1 << SKIP_SHIFT) - 1), skip: number >>> SKIP_SHIFT };
}
