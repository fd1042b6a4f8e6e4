/** Loads and stores by size; copies and fills of a size that is known, unrolled where they are short. */
import * as isa from '../isa.ts';
import { type Code, OP } from './wasm.ts';

/** Opcodes by BPF_SIZE; loads extend with zeros. */
export const LOADS: Readonly<Record<number, number>> = {
  [isa.BPF_B]: OP.i64Load8U,
  [isa.BPF_H]: OP.i64Load16U,
  [isa.BPF_W]: OP.i64Load32U,
  [isa.BPF_DW]: OP.i64Load,
};
export const STORES: Readonly<Record<number, number>> = {
  [isa.BPF_B]: OP.i64Store8,
  [isa.BPF_H]: OP.i64Store16,
  [isa.BPF_W]: OP.i64Store32,
  [isa.BPF_DW]: OP.i64Store,
};

/** Copies of more bytes call memory.copy, which costs a call into the engine. */
const MAX_UNROLLED = 128;

/** Pushes, as i64, the 8 bytes at `base + at`; those at `end` and behind count as zero and are not read. */
export function emitWord(code: Code, base: number, at: number, end: number): void {
  const rest = end - at;
  if (rest >= 8) code.get(base).mem(OP.i64Load, at);
  else if (end >= 8) {
    // The last eight bytes, of which the first belong to the word before.
    code
      .get(base)
      .mem(OP.i64Load, end - 8)
      .i64(8 * (8 - rest))
      .op(OP.i64ShrU);
  } else {
    // Pieces of 4, 2 and 1 bytes.
    let done = 0;
    for (const [size, load] of [
      [4, OP.i64Load32U],
      [2, OP.i64Load16U],
      [1, OP.i64Load8U],
    ] as const) {
      if ((rest & size) === 0) continue;
      code.get(base).mem(load, at + done);
      if (done > 0) code.i64(8 * done).op(OP.i64Shl, OP.i64Or);
      done += size;
    }
  }
}

/** Copies `size` bytes from `src + srcOffset` to `dst + dstOffset` (i32 locals). */
export function emitCopy(
  code: Code,
  dst: number,
  dstOffset: number,
  src: number,
  srcOffset: number,
  size: number,
): void {
  if (size > MAX_UNROLLED) {
    code.get(dst).i32(dstOffset).op(OP.i32Add);
    code.get(src).i32(srcOffset).op(OP.i32Add);
    code.i32(size).memoryCopy();
    return;
  }
  let at = 0;
  for (const [bytes, load, store] of [
    [8, OP.i64Load, OP.i64Store],
    [4, OP.i64Load32U, OP.i64Store32],
    [2, OP.i64Load16U, OP.i64Store16],
    [1, OP.i64Load8U, OP.i64Store8],
  ] as const) {
    for (; size - at >= bytes; at += bytes) {
      code.get(dst);
      code.get(src).mem(load, srcOffset + at);
      code.mem(store, dstOffset + at);
    }
  }
}

/** Zeroes `size` bytes, a multiple of 8, at `dst + offset`. */
export function emitZero(code: Code, dst: number, offset: number, size: number): void {
  if (size > MAX_UNROLLED) {
    code.get(dst).i32(offset).op(OP.i32Add).i32(0).i32(size).memoryFill();
    return;
  }
  for (let at = 0; at < size; at += 8)
    code
      .get(dst)
      .i64(0)
      .mem(OP.i64Store, offset + at);
}
