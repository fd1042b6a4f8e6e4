/** A key of a hash map in registers: hashed, compared and found as ../maps/README.md says. */
import type { PlacedMap } from '../layout.ts';
import {
  HASH_BUCKET,
  HASH_ELEM,
  HASH_HEADER,
  HASH_LANES,
  HASH_LIVE,
  HASH_MULTIPLIER,
  MAP_HEADER,
} from '../maps/map-layout.ts';
import { emitCopy, emitWord } from './memory.ts';
import { ATOMIC, type Code, I32, I64, OP } from './wasm.ts';

/** Keys of up to this many words are held in locals. */
const MAX_WORDS = 8;
/** A key of a hash map at an address: its words, hash and bucket in locals. */
export class HashKey {
  readonly hash: number;
  readonly bucketAddress: number;
  readonly #code: Code;
  readonly #map: PlacedMap;
  readonly #key: number;
  readonly #words: number[] = [];
  readonly endMarker: number;

  constructor(code: Code, map: PlacedMap, key: number) {
    this.#code = code;
    this.#map = map;
    this.#key = key;
    this.hash = code.local(I32);
    this.bucketAddress = code.local(I32);
    this.endMarker = code.local(I32);
  }

  /** Reads the key, sets hash and bucket. */
  emitHash(): void {
    const code = this.#code;
    const { spec, address, geometry } = this.#map;
    const count = Math.ceil(spec.keySize / 8);
    const lanes = Array.from({ length: Math.min(count, 4) }, () => code.local(I64));
    for (const [n, lane] of lanes.entries()) {
      if (n === 0) code.i32(address + MAP_HEADER.hashSeed).mem(OP.i64Load, 0);
      else code.i64(HASH_LANES[n - 1]!);
      code.set(lane);
    }
    const mix = (lane: number, word: () => void): void => {
      code.get(lane);
      word();
      code.op(OP.i64Xor).i64(HASH_MULTIPLIER).op(OP.i64Mul).tee(lane);
      code.get(lane).i64(32).op(OP.i64ShrU, OP.i64Xor).set(lane);
    };
    let first = 0;
    if (count > MAX_WORDS) {
      // All whole groups of four words in a loop.
      const groups = Math.floor(spec.keySize / 32);
      const at = code.local(I32);
      code.get(this.#key).set(at);
      const loop = code.loop();
      for (const [n, lane] of lanes.entries()) mix(lane, () => code.get(at).mem(OP.i64Load, 8 * n));
      code.get(at).i32(32).op(OP.i32Add).tee(at);
      code.get(this.#key).op(OP.i32Sub);
      code.i32(groups * 32).op(OP.i32LtU);
      code.brIf(loop);
      code.end();
      first = groups * 4;
    }
    for (let n = first; n < count; n++) {
      const word = code.local(I64);
      emitWord(code, this.#key, n * 8, spec.keySize);
      code.set(word);
      if (count <= MAX_WORDS) this.#words.push(word);
      mix(lanes[n & 3]!, () => code.get(word));
    }
    for (const lane of lanes.slice(1)) mix(lanes[0]!, () => code.get(lane));
    code.get(lanes[0]!).i64(HASH_MULTIPLIER).op(OP.i64Mul).i64(32).op(OP.i64ShrU, OP.i32WrapI64);
    code.i32(HASH_LIVE).op(OP.i32Or).tee(this.hash);
    code.i32(geometry.mask).op(OP.i32And).tee(this.endMarker);
    code
      .i32(3)
      .op(OP.i32Shl)
      .i32(address + HASH_HEADER.buckets)
      .op(OP.i32Add)
      .set(this.bucketAddress);
    code.get(this.endMarker).i32(1).op(OP.i32Shl).i32(1).op(OP.i32Or).set(this.endMarker);
  }

  /** Pushes 1 when the element has this hash and key. */
  emitMatch(elem: number): void {
    const code = this.#code;
    const { keySize } = this.#map.spec;
    code.get(elem).mem(OP.i32Load, HASH_ELEM.hash).get(this.hash).op(OP.i32Eq);
    code.if(I32);
    if (this.#words.length > 0) {
      for (const [n, word] of this.#words.entries()) {
        code
          .get(elem)
          .mem(OP.i64Load, HASH_ELEM.key + 8 * n)
          .get(word)
          .op(OP.i64Xor);
        if (n > 0) code.op(OP.i64Or);
      }
      code.op(OP.i64Eqz);
    } else {
      // Whole words in a loop, then the last eight bytes, which may overlap.
      const at = code.local(I32);
      const whole = Math.floor(keySize / 8) * 8;
      code.i32(0).set(at);
      const different = code.block();
      const loop = code.loop();
      code.get(this.#key).get(at).op(OP.i32Add).mem(OP.i64Load, 0);
      code.get(elem).get(at).op(OP.i32Add).mem(OP.i64Load, HASH_ELEM.key);
      code.op(OP.i64Ne).brIf(different);
      code.get(at).i32(8).op(OP.i32Add).tee(at).i32(whole).op(OP.i32LtU).brIf(loop);
      code.end();
      code.end();
      code.get(at).i32(whole).op(OP.i32GeU);
      code.get(this.#key).mem(OP.i64Load, keySize - 8);
      code.get(elem).mem(OP.i64Load, HASH_ELEM.key + keySize - 8);
      code.op(OP.i64Eq, OP.i32And);
    }
    code.else().i32(0).end();
  }

  /** Walks the bucket; `found` is emitted where the element's address is in the local that it gets, and has to leave. */
  emitFind(found: (elem: number) => void): void {
    const code = this.#code;
    const elem = code.local(I32);
    const none = code.block();
    const again = code.loop();
    const end = code.block();
    code
      .get(this.bucketAddress)
      .atomic(ATOMIC.i32Load, 4, HASH_BUCKET.head)
      .tee(elem)
      .op(OP.i32Eqz)
      .brIf(none);
    const chain = code.loop();
    code.get(elem).i32(1).op(OP.i32And).brIf(end);
    this.emitMatch(elem);
    code.if();
    found(elem);
    code.end();
    code.get(elem).atomic(ATOMIC.i32Load, 4, HASH_ELEM.next).set(elem).br(chain);
    code.end();
    code.end();
    // The end marker of another bucket: an element moved there while we stood on it.
    code.get(elem).get(this.endMarker).op(OP.i32Ne).brIf(again);
    code.end();
    code.end();
  }

  /** Writes the key, padded with zeros, into an element. */
  emitStoreKey(elem: number): void {
    const code = this.#code;
    const { keySize } = this.#map.spec;
    if (this.#words.length > 0) {
      for (const [n, word] of this.#words.entries()) {
        code
          .get(elem)
          .get(word)
          .mem(OP.i64Store, HASH_ELEM.key + 8 * n);
      }
      return;
    }
    code
      .get(elem)
      .i64(0)
      .mem(OP.i64Store, HASH_ELEM.key + Math.floor((keySize - 1) / 8) * 8);
    emitCopy(code, elem, HASH_ELEM.key, this.#key, 0, keySize);
  }
}
