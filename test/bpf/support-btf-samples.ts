import { BtfBuilder } from '../../src/bpf/btf/index.ts';

/** A deterministic generator of numbers (mulberry32): below n. */
export function randomizer(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}

/** BTF with every kind, that the kernel takes. */
export function everyKind(): BtfBuilder {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const u64 = b.int('u64', 8);
  const flag = b.int('bool', 1, { bool: true });
  const ptr = b.ptr(5);
  const list = b.struct('list', 24, [
    { name: 'next', type: ptr, bitOffset: 0 },
    { name: 'value', type: u64, bitOffset: 64 },
    { name: 'flag', type: flag, bitOffset: 128 },
    { name: 'number', type: int, bitOffset: 160 },
  ]);
  const color = b.enum('color', [
    { name: 'RED', value: 0 },
    { name: 'BLUE', value: -2 },
  ]);
  const big = b.enum64('big', [{ name: 'HUGE', value: 1n << 40n }]);
  const forward = b.ptr(b.fwd('opaque'));
  const array = b.array(list, int, 3);
  const bits = b.struct('bits', 8, [
    { name: 'a', type: int, bitOffset: 0, bitSize: 3 },
    { name: 'b', type: color, bitOffset: 3, bitSize: 7 },
    { name: 'c', type: int, bitOffset: 32 },
  ]);
  const union = b.union('', 72, [
    { name: 'one', type: array, bitOffset: 0 },
    { name: 'two', type: forward, bitOffset: 0 },
    { name: 'three', type: b.float('double', 8), bitOffset: 0 },
  ]);
  const alias = b.typedef('alias', b.const(b.volatile(union)));
  const tagged = b.ptr(b.typeTag('user', b.const(list)));
  const proto = b.funcProto(int, [
    { name: 'a', type: tagged },
    { name: 'b', type: b.restrict(ptr) },
    { name: '', type: 0 },
  ]);
  const func = b.func('callee', proto, 'global');
  const one = b.var('one', alias, 'global');
  const two = b.var('two', big);
  b.datasec('.data', 96, [
    { type: one, offset: 0, size: 72 },
    { type: two, offset: 80, size: 8 },
  ]);
  b.declTag('checked', bits, 1);
  b.declTag('checked', func, 0);
  b.declTag('whole', one);
  return b;
}

/** Changes a few words of the type section, most of them to something that could be meant. */
export function mutate(bytes: Uint8Array, random: (n: number) => number): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  const types = view.getUint32(12, true) / 4;
  const strings = view.getUint32(20, true);
  const count = 1 + random(2);
  for (let i = 0; i < count; i++) {
    const at = 24 + 4 * random(types);
    const old = view.getUint32(at, true);
    const choices: (() => number)[] = [
      () => old + 1,
      () => Math.max(0, old - 1),
      () => 0,
      () => random(40),
      () => random(strings),
      () => old ^ (1 << random(32)),
      () => (random(20) << 24) | random(4),
      () => 8 * random(100),
      () => old ^ 0x8000_0000,
    ];
    view.setUint32(at, choices[random(choices.length)]!() >>> 0, true);
  }
  return copy;
}

/**
 * Structs and unions `random0`, `random1`, … with members anywhere where a compiler could be made to put them: gaps, missing
 * alignment, bitfields across boundaries, nested and anonymous ones.
 */
export function randomLayouts(count: number, random: (n: number) => number): BtfBuilder {
  const b = new BtfBuilder();
  const scalars = [
    { type: b.int('char', 1, { signed: true }), size: 1, bits: 8 },
    { type: b.int('unsigned char', 1), size: 1, bits: 8 },
    { type: b.int('short', 2, { signed: true }), size: 2, bits: 16 },
    { type: b.int('unsigned int', 4), size: 4, bits: 32 },
    { type: b.int('long long', 8, { signed: true }), size: 8, bits: 64 },
    { type: b.int('_Bool', 1, { bool: true }), size: 1, bits: 1 },
    { type: b.int('__int128', 16, { signed: true }), size: 16, bits: 0 },
    { type: b.ptr(0), size: 8, bits: 0 },
    { type: b.float('double', 8), size: 8, bits: 0 },
    { type: b.enum('narrow', [{ name: 'NARROW', value: 3 }], 1), size: 1, bits: 2 },
    { type: b.enum('usual', [{ name: 'USUAL', value: 70_000 }]), size: 4, bits: 20 },
  ];
  const index = scalars[3]!.type;
  const known = scalars.map((one) => ({ ...one }));
  for (let n = 0; n < count; n++) {
    const union = random(5) === 0;
    const members: { name: string; type: number; bitOffset: number; bitSize: number }[] = [];
    let at = 0;
    let end = 0;
    for (let m = random(7); m >= 0; m--) {
      let { type, size, bits } = known[random(known.length)]!;
      if (random(6) === 0 && size < 1000) {
        const length = random(4);
        type = b.array(type, index, length);
        size *= length;
        bits = 0;
      }
      if (union) at = 0;
      let bitSize = 0;
      if (bits > 0 && random(3) === 0) {
        // clang lays no bitfield across the end of its type in two pieces unless packed: any place is possible.
        bitSize = 1 + random(bits);
        if (!union && random(3) === 0) at += random(12);
      } else {
        at = Math.ceil(at / 8) * 8;
        const align = [8, 8 * Math.min(8, size || 1), 8 * (size || 1)][random(3)]!;
        if (!union) at = Math.ceil(at / align) * align + (random(8) === 0 ? 8 * random(40) : 0);
      }
      members.push({ name: `m${members.length}`, type, bitOffset: at, bitSize });
      at += bitSize || size * 8;
      end = Math.max(end, at);
    }
    const align = [1, 1, 4, 8, 16][random(5)]!;
    const bytes = Math.ceil(Math.ceil(end / 8) / align) * align + (random(6) === 0 ? align * random(3) : 0);
    const anonymous = random(6) === 0;
    const type = union
      ? b.union(anonymous ? '' : `random${n}`, bytes, members)
      : b.struct(anonymous ? '' : `random${n}`, bytes, members);
    if (bytes < 512) known.push({ type, size: bytes, bits: 0 });
    // Later ones hold scalars and the latest ones.
    if (known.length > 24) known.splice(scalars.length, 1);
  }
  return b;
}
