/** Strings: zero-filled bytes in memory, whole words long, so that they compare and hash as words. */
import { R0, R1, R2, R3, R4 } from '../../bpf/builder.ts';
import * as isa from '../../bpf/isa.ts';
import { JS_VALUE } from '../../kernel/trace/js-kfuncs.ts';
import type * as ast from '../ast.ts';
import { isValue, type LType, roundUp8 } from '../types.ts';
import { emitCondition } from './condition.ts';
import type { Place } from './frame.ts';
import { type Gen, offset } from './gen.ts';
import { placeOf } from './memory.ts';
import { emitValue } from './values.ts';

/** Whether `==` of two types compares text. */
export function stringTest(a: LType, b: LType): boolean {
  if (a.kind === 'string') return b.kind === 'string' || isValue(b);
  return b.kind === 'string' && isValue(a);
}

/** Bytes of a literal, cut to leave room for the NUL. */
export function literalBytes(value: string, size: number): Uint8Array {
  const bytes = new TextEncoder().encode(value);
  return bytes.length < size ? bytes : bytes.subarray(0, size - 1);
}

/** The word of a zero-filled byte string at an offset. */
export function wordAt(bytes: Uint8Array, at: number): bigint {
  let word = 0n;
  for (let i = 7; i >= 0; i--) word = (word << 8n) | BigInt(bytes[at + i] ?? 0);
  return word;
}

function storeBytes(gen: Gen, place: Place, bytes: Uint8Array, size: number): void {
  for (let at = 0; at < size; at += 8) gen.storeImm(offset(place, at), wordAt(bytes, at));
}

/** The expression behind str() calls that change nothing, and how many bytes (NUL included) it may have. */
function unwrap(gen: Gen, expr: ast.Expr): { expr: ast.Expr; size: number } {
  const type = gen.type(expr);
  let size = type.kind === 'string' ? type.size : gen.module.config.maxStrlen;
  let inner = expr;
  while (
    (inner.kind === 'call' && inner.name === 'str') ||
    (inner.kind === 'cast' && inner.type === 'string')
  ) {
    const own = gen.type(inner);
    if (own.kind === 'string') size = Math.min(size, own.size);
    inner = inner.kind === 'call' ? inner.args[0]! : inner.operand;
  }
  return { expr: inner, size };
}

/** Writes a string to `size` bytes, a multiple of 8; what it does not need is zero. */
export function emitString(gen: Gen, expr: ast.Expr, place: Place, size: number): void {
  const { b } = gen;
  const source = unwrap(gen, expr);
  const room = Math.min(size, source.size);
  const inner = source.expr;
  const type = gen.type(inner);
  if (inner.kind === 'string') {
    storeBytes(gen, place, literalBytes(inner.value, room), size);
    return;
  }
  if (type.kind === 'value') {
    const used = roundUp8(room);
    // The call fills `room` bytes; the rest of its last word comes first.
    if (used > room) b.st(8, place.reg, place.off + used - 8, 0);
    const path = emitValue(gen, inner, R3);
    gen.addr(R1, place);
    b.mov(R2, room).mov(R4, path);
    gen.kcall('js_str');
    gen.zero(offset(place, used), size - used);
    return;
  }
  if (inner.kind === 'ident' && inner.name === 'comm') {
    gen.zero(place, size);
    if (size < 16) {
      gen.temp(16, (whole) => {
        emitComm(gen, whole);
        gen.copy(whole, place, size);
      });
    } else emitComm(gen, place);
  } else if (inner.kind === 'ternary') {
    const no = gen.label('no');
    const end = gen.label('end');
    gen.available.branch(() => emitCondition(gen, inner.condition, no, false));
    gen.available.branch(() => emitString(gen, inner.yes, place, size));
    b.jump(end).label(no);
    gen.available.branch(() => emitString(gen, inner.no, place, size));
    b.label(end);
  } else if (type.kind === 'stored') {
    placeOf(gen, inner, (from) => copyStoredText(gen, from, place, size));
  } else {
    const have = Math.min(size, gen.sizeOf(type));
    placeOf(gen, inner, (from) => gen.copy(from, place, have));
    gen.zero(offset(place, have), size - have);
  }
  cut(gen, place, room, size);
}

function emitComm(gen: Gen, place: Place): void {
  gen.addr(R1, place);
  gen.b.mov(R2, 16).call(isa.BPF_FUNC_get_current_comm);
}

/** Zeroes what is behind `room` bytes, and the last of them (the NUL). */
function cut(gen: Gen, place: Place, room: number, size: number): void {
  const { b } = gen;
  const at = Math.max(0, room - 1);
  if (at >= size) return;
  const word = at & ~7;
  if (at > word) {
    b.ldx(8, R1, place.reg, place.off + word);
    b.lddw(R2, (1n << BigInt((at - word) * 8)) - 1n).and(R1, R2);
    b.stx(8, place.reg, place.off + word, R1);
  } else b.st(8, place.reg, place.off + word, 0);
  if (room < size) gen.zero(offset(place, word + 8), size - word - 8);
}

/** The text of a kept value; "" when it has none (numbers). */
function copyStoredText(gen: Gen, from: Place, to: Place, size: number): void {
  const { b } = gen;
  const none = gen.label('none');
  const end = gen.label('end');
  const have = Math.min(size, roundUp8(gen.module.config.maxStrlen));
  b.ldx(4, R2, from.reg, from.off).jcond('<', R2, JS_VALUE.tags.string, none);
  gen.copy(offset(from, JS_VALUE.headerSize), to, have);
  b.jump(end).label(none);
  gen.zero(to, have);
  b.label(end);
  gen.zero(offset(to, have), size - have);
}

/**
 * Falls through when two strings are equal, else jumps. With `length`, only so many bytes count.
 * Against a literal only as much is read of the other side as can matter.
 */
export function emitStringsEqual(gen: Gen, a: ast.Expr, b: ast.Expr, differ: string, length?: number): void {
  const left = unwrap(gen, a);
  const right = unwrap(gen, b);
  if (left.expr.kind === 'string') {
    compareLiteral(gen, left.expr.value, left.size, b, differ, length);
    return;
  }
  if (right.expr.kind === 'string') {
    compareLiteral(gen, right.expr.value, right.size, a, differ, length);
    return;
  }
  const size = roundUp8(Math.max(left.size, right.size));
  gen.temp(size, (first) => {
    emitString(gen, a, first, size);
    gen.temp(size, (second) => {
      emitString(gen, b, second, size);
      const bytes = Math.min(size, length ?? size);
      for (let at = 0; at < bytes; at += 8) {
        gen.b.ldx(8, R1, first.reg, first.off + at).ldx(8, R2, second.reg, second.off + at);
        if (bytes - at < 8) {
          gen.b
            .xor(R1, R2)
            .lsh(R1, 64 - (bytes - at) * 8)
            .jcond('!=', R1, 0, differ);
        } else gen.b.jcond('!=', R1, R2, differ);
      }
    });
  });
}

function compareLiteral(
  gen: Gen,
  value: string,
  limit: number,
  other: ast.Expr,
  differ: string,
  length: number | undefined,
): void {
  const bytes = literalBytes(value, limit);
  const source = unwrap(gen, other);
  const type = gen.type(source.expr);
  // The literal and its NUL, or the bytes that count.
  const count = Math.min(bytes.length + 1, length ?? Number.POSITIVE_INFINITY);
  const compare = (place: Place, room: number): void => {
    for (let at = 0; at < count; at += 8) {
      const bits = Math.min(8, count - at) * 8;
      const mask = (1n << BigInt(bits)) - 1n;
      const wanted = wordAt(bytes, at) & mask;
      if (at >= room) {
        if (wanted !== 0n) gen.b.jump(differ);
        continue;
      }
      gen.b.ldx(8, R1, place.reg, place.off + at);
      // Behind a NUL everything is zero, so a whole word may be compared unless the length cuts it.
      if (length !== undefined && bits < 64) gen.b.lsh(R1, 64 - bits).rsh(R1, 64 - bits);
      if (wanted <= 0x7fff_ffffn) gen.b.jcond('!=', R1, Number(wanted), differ);
      else gen.b.lddw(R2, wanted).jcond('!=', R1, R2, differ);
    }
  };
  if (type.kind === 'value' || source.expr.kind === 'ternary' || type.kind === 'stored') {
    // One byte more than the literal shows that the other one is longer.
    const size = Math.min(roundUp8(source.size), roundUp8(count + 1));
    gen.temp(size, (place) => {
      emitString(gen, other, place, size);
      compare(place, size);
    });
    return;
  }
  if (source.expr !== other) {
    const size = roundUp8(source.size);
    gen.temp(size, (place) => {
      emitString(gen, other, place, size);
      compare(place, size);
    });
    return;
  }
  placeOf(gen, other, (place) => compare(place, gen.sizeOf(type)));
}

/**
 * R0 = 1 where a text has the part somewhere, else 0. The part is compared at each place of the text, without a loop: to the verifier a
 * round would be worth as much. What a string does not need is zero, and a part has no NUL, so no length has to be known.
 */
export function emitContains(gen: Gen, text: ast.Expr, part: string): void {
  const { b } = gen;
  const bytes = new TextEncoder().encode(part);
  const room = unwrap(gen, text).size;
  if (bytes.length === 0 || bytes.length >= room) {
    b.mov(R0, bytes.length === 0 ? 1 : 0);
    return;
  }
  const size = roundUp8(room);
  const found = gen.label('found');
  const missing = gen.label('missing');
  const end = gen.label('end');
  gen.temp(size, (place) => {
    emitString(gen, text, place, size);
    const first = wordAt(bytes, 0);
    b.lddw(R4, first);
    for (let at = 0; at + bytes.length < room; at++) {
      const next = gen.label('next');
      // behind the end of the text there is nothing any more
      if (at > 0 && at % 8 === 0) b.ldx(8, R1, place.reg, place.off + at).jcond('==', R1, 0, missing);
      for (let done = 0; done < bytes.length; done += 8) {
        loadUnaligned(gen, place, at + done, size, Math.min(8, bytes.length - done));
        if (done > 0) b.lddw(R3, wordAt(bytes, done));
        b.jcond('!=', R1, done === 0 ? R4 : R3, next);
      }
      b.jump(found).label(next);
    }
  });
  b.label(missing).mov(R0, 0).jump(end);
  b.label(found).mov(R0, 1).label(end);
}

/** R1 = `count` bytes at a place whose words are aligned, the rest zero; R2 is overwritten. */
function loadUnaligned(gen: Gen, place: Place, at: number, size: number, count: number): void {
  const { b } = gen;
  const word = at & ~7;
  const shift = (at - word) * 8;
  b.ldx(8, R1, place.reg, place.off + word);
  if (shift > 0) b.rsh(R1, shift);
  if (shift + count * 8 > 64 && word + 8 < size)
    b.ldx(8, R2, place.reg, place.off + word + 8)
      .lsh(R2, 64 - shift)
      .or(R1, R2);
  if (count < 8) b.lsh(R1, 64 - count * 8).rsh(R1, 64 - count * 8);
}

/** R0 = bytes before the NUL. */
export function emitStrlen(gen: Gen, expr: ast.Expr): void {
  const { b } = gen;
  const type = gen.type(expr);
  const size = gen.sizeOf(type);
  if (expr.kind === 'string') {
    b.mov(R0, literalBytes(expr.value, size).length);
    return;
  }
  gen.temp(size, (place) => {
    emitString(gen, expr, place, size);
    emitLength(gen, place, size);
  });
}

/**
 * R0 = bytes before the NUL of a place. Behind the NUL everything is zero, so the bytes that are not zero are counted, eight
 * at a time and without a branch: to the verifier every branch would be another length to follow.
 */
export function emitLength(gen: Gen, place: Place, size: number): void {
  const { b } = gen;
  b.mov(R0, 0).lddw(R3, 0x7f7f_7f7f_7f7f_7f7fn).lddw(R4, 0x0101_0101_0101_0101n);
  for (let at = 0; at < size; at += 8) {
    b.ldx(8, R1, place.reg, place.off + at);
    // The top bit of each byte that is not zero, moved to its lowest; their sum ends up in the top byte.
    b.mov(R2, R1).and(R2, R3).add(R2, R3).or(R2, R1).rsh(R2, 7).and(R2, R4).mul(R2, R4).rsh(R2, 56);
    b.add(R0, R2);
  }
}
