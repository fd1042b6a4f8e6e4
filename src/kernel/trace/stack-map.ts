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

/** Flags of bpf_get_stack, beside those of STACKID that it takes. */
export const STACK_USER_BUILD_ID = 1 << 11;
/** struct bpf_stack_build_id: its bytes, those in front of the address, and the status that says that it holds one. */
export const STACK_BUILD_ID = { size: 32, address: 24, isAddress: 2 } as const;

/**
 * Frames as addresses: numbered as they first come in the stacks of a process, which both sides go through in their order. The upper
 * half of an address is the same for all.
 */
export const FRAME_ADDRESS = { high: 0xffff_a000, step: 16 } as const;
