/** Values kept as bytes (struct js_value): how to read them as numbers, and how to make them of numbers and strings. */
import { R0, R1, R2, R3, R4 } from '../../bpf/builder.ts';
import { JS_VALUE } from '../../kernel/trace/js-kfuncs.ts';
import type { Place } from './frame.ts';
import { type Gen, offset } from './gen.ts';

const { tags, headerSize } = JS_VALUE;

/** R0 = the number, as registers hold JavaScript numbers: doubles are truncated, everything else is 0. */
export function emitStoredInt(gen: Gen, place: Place): void {
  const { b } = gen;
  const end = gen.label('end');
  const double = gen.label('double');
  const none = gen.label('none');
  b.ldx(4, R2, place.reg, place.off);
  b.ldx(8, R0, place.reg, place.off + headerSize);
  b.jcond('==', R2, tags.int, end).jcond('==', R2, tags.boolean, end);
  b.jcond('==', R2, tags.double, double);
  b.label(none).mov(R0, 0).jump(end);
  // A double: mantissa with its hidden bit, shifted by the exponent.
  b.label(double);
  b.mov(R1, R0).rsh(R1, 52).and(R1, 0x7ff);
  b.jcond('<', R1, 1023, none).jcond('>', R1, 1085, none);
  b.mov(R3, R0);
  b.lsh(R0, 11);
  b.lddw(R4, 1n << 63n).or(R0, R4);
  b.mov(R4, 1086).sub(R4, R1).and(R4, 63).rsh(R0, R4);
  b.jcond('s>=', R3, 0, end).neg(R0);
  b.label(end);
}

/** R0 = 0 where JavaScript would not take the branch. */
export function emitStoredTruth(gen: Gen, place: Place): void {
  const { b } = gen;
  const end = gen.label('end');
  const data = gen.label('data');
  const no = gen.label('no');
  b.ldx(4, R2, place.reg, place.off);
  b.ldx(8, R0, place.reg, place.off + headerSize);
  b.jcond('==', R2, tags.int, end).jcond('==', R2, tags.boolean, end);
  b.jcond('<=', R2, tags.null, no);
  b.jcond('==', R2, tags.double, data);
  // An empty string is false, and nothing else that has a text.
  b.mov(R0, 1).jcond('!=', R2, tags.string, end);
  b.ldx(4, R0, place.reg, place.off + 4).jump(end);
  b.label(data);
  // -0 and NaN: without its sign a double is false when it is 0 or above infinity.
  b.lsh(R0, 1).jcond('==', R0, 0, end);
  b.lddw(R1, 0xffe0_0000_0000_0000n).jcond('<=', R0, R1, end);
  b.label(no).mov(R0, 0);
  b.label(end);
}

/** Makes a value of the number in R0. */
export function storeIntAsValue(gen: Gen, place: Place, size: number): void {
  gen.b.stx(8, place.reg, place.off + headerSize, R0);
  gen.storeImm(place, BigInt(tags.int) | (8n << 32n));
  gen.zero(offset(place, headerSize + 8), size - headerSize - 8);
}

/** The first word of a value that is a string of so many bytes. */
export function stringHeader(length: number): bigint {
  return BigInt(tags.string) | (BigInt(length) << 32n);
}
