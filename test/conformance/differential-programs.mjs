// Random XDP programs that a verifier accepts, from a seed: ALU of all forms, jumps, stack, packet, map values at fixed and variable
// offsets, atomics, load-acquire and store-release, map helpers, maps in maps, calls between BPF functions, callbacks, loops with and
// without may_goto. What they compute depends on nothing but packet and maps.
//
// r0 to r5, r8 and r9 are numbers, r6 is the packet (64 bytes were checked), r7 a value of the array map.

/** A small generator of numbers (mulberry32). */
export class Random {
  constructor(seed) {
    this.state = seed >>> 0;
  }

  /** 0 to 2^32 - 1 */
  u32() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  below(n) {
    return this.u32() % n;
  }

  pick(list) {
    return list[this.below(list.length)];
  }

  bytes(n) {
    return Uint8Array.from({ length: n }, () => this.u32() & 255);
  }

  /** Numbers at the edges come often. */
  s32() {
    return this.below(2) === 0 ? this.u32() | 0 : this.pick(EDGES);
  }
}

const EDGES = [0, 1, -1, 2, 7, 8, 31, 32, 63, 64, 255, 256, 65535, 65536, 0x7fffffff, -0x80000000];

export const PACKET_SIZE = 64;
export const MAPS = [
  { name: 'values', type: 'array', keySize: 4, valueSize: 64, maxEntries: 2 },
  { name: 'table', type: 'hash', keySize: 8, valueSize: 16, maxEntries: 4 },
  { name: 'outer', type: 'array_of_maps', keySize: 4, valueSize: 4, maxEntries: 3 },
];
/** What two entries of the outer map hold; the third one is empty. */
export const INNER = { name: 'inner', type: 'array', keySize: 4, valueSize: 16, maxEntries: 2 };
/** Keys that programs use. */
export const KEYS = [1, 2, 3, 4, 5];

// Opcodes: RFC 9669.
const ALU64 = 7;
const ALU32 = 4;
const JMP = 5;
const JMP32 = 6;
const X = 8;
const OPERATIONS = [0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0, 0xb0, 0xc0];
const JUMPS = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0];
const SIZE_BITS = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 };
const CMPXCHG = 0xf1;
const ATOMICS = [0x00, 0x40, 0x50, 0xa0, 0x01, 0x41, 0x51, 0xa1, 0xe1, CMPXCHG];
const HELPER = { lookup: 1, update: 2, delete: 3, forEach: 164, loop: 181 };
const MAP = { values: 0, table: 1, outer: 2 };
const LOAD_ACQUIRE = 0x100;
const STORE_RELEASE = 0x110;
const MAY_GOTO = 0xe5;
/** Bytes of stack, in words, that every function sets before it uses them. */
const STACK_WORDS = 6;
const SCALARS = [0, 1, 2, 3, 4, 5, 8, 9];
const KEY_AT = -80;
const VALUE_AT = -104;

/** One function under construction. */
class Writer {
  constructor(random, depth) {
    this.random = random;
    this.insns = [];
    /** What `call` has to be linked to, by instruction. */
    this.calls = [];
    /** Functions that helpers call, by the instruction that loads their address. */
    this.callbacks = [];
    this.depth = depth;
    this.scalars = SCALARS;
    /** Of the main program only. */
    this.hasPointers = false;
  }

  emit(code, dst, src, off, imm) {
    this.insns.push({ code, dst, src, off, imm });
    return this.insns.length - 1;
  }

  /** Makes the jump at `at` come here. */
  land(at) {
    this.insns[at].off = this.insns.length - at - 1;
  }

  wide(dst, low, high, src = 0) {
    this.emit(0x18, dst, src, 0, low);
    this.emit(0, 0, 0, 0, high);
  }

  scalar() {
    return this.random.pick(this.scalars);
  }

  alu() {
    const { random } = this;
    const wide = random.below(2) === 0;
    const operation = random.pick(OPERATIONS);
    const isReg = random.below(2) === 0;
    const isDivision = operation === 0x30 || operation === 0x90;
    const isShift = operation === 0x60 || operation === 0x70 || operation === 0xc0;
    let imm = isReg ? 0 : random.s32();
    if (!isReg && isShift) imm = random.below(wide ? 64 : 32);
    if (!isReg && isDivision && imm === 0) imm = 3;
    let off = isDivision && random.below(2) === 0 ? 1 : 0;
    if (isReg && operation === 0xb0) off = random.pick(wide ? [0, 8, 16, 32] : [0, 8, 16]);
    const code = (wide ? ALU64 : ALU32) | operation | (isReg ? X : 0);
    this.emit(code, this.scalar(), isReg ? this.scalar() : 0, off, imm);
  }

  unary() {
    const { random } = this;
    const bits = random.pick([16, 32, 64]);
    const code = random.pick([0x84, 0x87, 0xd4, 0xdc, 0xd7]);
    this.emit(code, this.scalar(), 0, 0, code < 0x90 ? 0 : bits);
  }

  /** x << k | x >> (size - k), which engines make a rotation of. */
  rotation() {
    const { random } = this;
    const wide = random.below(2) === 0;
    const a = this.scalar();
    const b = random.pick(this.scalars.filter((reg) => reg !== a));
    const bits = wide ? 64 : 32;
    const count = 1 + random.below(bits - 1);
    const kind = wide ? ALU64 : ALU32;
    this.emit(kind | 0xb0 | X, b, a, 0, 0);
    this.emit(kind | 0x60, a, 0, 0, count);
    this.emit(kind | 0x70, b, 0, 0, random.below(8) === 0 ? count : bits - count);
    this.emit(kind | random.pick([0x40, 0x00, 0xa0]) | X, a, b, 0, 0);
  }

  /** A pointer register and an offset good for `size` bytes. */
  place(size, aligned, packet = true) {
    const { random } = this;
    const where = this.hasPointers
      ? random.pick(packet ? ['stack', 'packet', 'map'] : ['stack', 'map'])
      : 'stack';
    const room = where === 'stack' ? STACK_WORDS * 8 : where === 'packet' ? PACKET_SIZE : 64;
    let at = random.below(room - size + 1);
    if (aligned || where === 'stack') at -= at % size;
    if (where === 'stack') return { reg: 10, off: at - STACK_WORDS * 8 };
    return { reg: where === 'packet' ? 6 : 7, off: at };
  }

  load() {
    const { random } = this;
    const size = random.pick([1, 2, 4, 8]);
    const isSigned = size < 8 && random.below(3) === 0;
    const { reg, off } = this.place(size, false);
    this.emit((isSigned ? 0x81 : 0x61) | SIZE_BITS[size], this.scalar(), reg, off, 0);
  }

  store() {
    const { random } = this;
    const size = random.pick([1, 2, 4, 8]);
    const { reg, off } = this.place(size, false);
    if (random.below(3) === 0) this.emit(0x62 | SIZE_BITS[size], reg, 0, off, random.s32());
    else this.emit(0x63 | SIZE_BITS[size], reg, this.scalar(), off, 0);
  }

  /** A map value at an offset that only the verifier's bounds make good. */
  variable() {
    const { random } = this;
    if (!this.hasPointers) return this.load();
    const [index, pointer, data] = shuffle(random, [0, 1, 2, 3, 4, 5]);
    const size = random.pick([1, 2, 4, 8]);
    this.emit(ALU64 | 0xb0 | X, index, this.scalar(), 0, 0);
    const how = random.below(3);
    if (how === 0) this.emit(ALU64 | 0x50, index, 0, 0, 31);
    else if (how === 1) this.emit(ALU64 | 0x70, index, 0, 0, 59);
    else {
      const skip = this.emit(JMP | 0xb0, index, 0, 0, 40);
      this.emit(ALU64 | 0xb0, index, 0, 0, random.below(40));
      this.land(skip);
    }
    this.emit(ALU64 | 0xb0 | X, pointer, 7, 0, 0);
    this.emit(ALU64 | X, pointer, index, 0, 0);
    const off = random.below(64 - 40 - size + 1);
    if (random.below(2) === 0) this.emit(0x61 | SIZE_BITS[size], data, pointer, off, 0);
    else this.emit(0x63 | SIZE_BITS[size], pointer, index, off, 0);
    // No pointer is left where a number may be expected.
    this.emit(ALU64 | 0xb0 | X, pointer, index, 0, 0);
  }

  atomic() {
    const { random } = this;
    const size = random.pick([4, 8]);
    const { reg, off } = this.place(size, true, false);
    const source = this.scalar();
    const operation = random.pick(ATOMICS);
    this.emit(0xc3 | SIZE_BITS[size], reg, source, off, operation);
    if (operation === CMPXCHG && size === 4 && random.zeroExtends) this.emit(ALU32 | 0xb0 | X, 0, 0, 0, 0);
  }

  /** load_acquire or store_release */
  ordered() {
    const { random } = this;
    const size = random.pick([1, 2, 4, 8]);
    const { reg, off } = this.place(size, true, false);
    const isLoad = random.below(2) === 0;
    if (isLoad) this.emit(0xc3 | SIZE_BITS[size], this.scalar(), reg, off, LOAD_ACQUIRE);
    else this.emit(0xc3 | SIZE_BITS[size], reg, this.scalar(), off, STORE_RELEASE);
  }

  /** `reg` becomes a pointer to the stack. */
  stackAddress(reg, off) {
    this.emit(ALU64 | 0xb0 | X, reg, 10, 0, 0);
    this.emit(ALU64, reg, 0, 0, off);
  }

  /** bpf_loop or bpf_for_each_map_elem with two words of this function's stack; what they hold then is numbers again. */
  callback() {
    const { random } = this;
    if (!this.hasPointers) return this.load();
    const kind = random.pick(['loop', 'loop', 'array', 'hash']);
    this.emit(0x7b, 10, this.scalar(), VALUE_AT, 0);
    this.emit(0x7b, 10, this.scalar(), VALUE_AT + 8, 0);
    if (kind === 'loop') this.emit(ALU64 | 0xb0, 1, 0, 0, random.below(12));
    else this.wide(1, kind === 'array' ? MAP.values : MAP.table, 0, 5);
    this.callbacks.push({ at: this.insns.length, kind });
    this.wide(2, 0, 0, 4);
    this.stackAddress(3, VALUE_AT);
    this.emit(ALU64 | 0xb0, 4, 0, 0, 0);
    this.emit(0x85, 0, 0, 0, kind === 'loop' ? HELPER.loop : HELPER.forEach);
    this.refill();
    this.emit(0x79, 8, 10, VALUE_AT, 0);
    this.emit(0x79, 1, 10, VALUE_AT + 8, 0);
  }

  /** A value of a map in the outer map. */
  inner() {
    const { random } = this;
    if (!this.hasPointers) return this.load();
    this.emit(0x62, 10, 0, KEY_AT, random.below(4));
    this.wide(1, MAP.outer, 0, 5);
    this.stackAddress(2, KEY_AT);
    this.emit(0x85, 0, 0, 0, HELPER.lookup);
    const noMap = this.emit(JMP | 0x10, 0, 0, 0, 0);
    this.emit(0x62, 10, 0, KEY_AT, random.below(3));
    this.emit(ALU64 | 0xb0 | X, 1, 0, 0, 0);
    this.stackAddress(2, KEY_AT);
    this.emit(0x85, 0, 0, 0, HELPER.lookup);
    const noValue = this.emit(JMP | 0x10, 0, 0, 0, 0);
    const size = random.pick([1, 2, 4, 8]);
    const off = random.below(16 / size) * size;
    if (random.below(2) === 0) this.emit(0x63 | SIZE_BITS[size], 0, 8, off, 0);
    this.emit(0x61 | SIZE_BITS[size], 0, 0, off, 0);
    this.land(noMap);
    this.land(noValue);
    this.refill();
  }

  /** Gives new numbers to registers that a call destroyed. */
  refill() {
    for (const reg of [1, 2, 3, 4, 5]) {
      const { off } = { off: -8 * (1 + this.random.below(STACK_WORDS)) };
      this.emit(0x79, reg, 10, off, 0);
    }
  }

  /** Lookup, update or delete in the hash map. */
  helper() {
    const { random } = this;
    if (!this.hasPointers) return this.load();
    const which = random.pick(['lookup', 'lookup', 'update', 'update', 'delete']);
    this.emit(0x7a, 10, 0, KEY_AT, random.pick(KEYS));
    if (which === 'update') {
      this.emit(0x7b, 10, this.scalar(), VALUE_AT, 0);
      this.emit(0x7b, 10, this.scalar(), VALUE_AT + 8, 0);
    }
    this.wide(1, 1, 0, 5);
    this.emit(ALU64 | 0xb0 | X, 2, 10, 0, 0);
    this.emit(ALU64, 2, 0, 0, KEY_AT);
    if (which === 'update') {
      this.emit(ALU64 | 0xb0 | X, 3, 10, 0, 0);
      this.emit(ALU64, 3, 0, 0, VALUE_AT);
      this.emit(ALU64 | 0xb0, 4, 0, 0, random.below(4));
    }
    this.emit(0x85, 0, 0, 0, HELPER[which]);
    if (which === 'lookup') {
      const none = this.emit(JMP | 0x10, 0, 0, 0, 0);
      const size = random.pick([1, 2, 4, 8]);
      const off = random.below(16 / size) * size;
      if (random.below(2) === 0) this.emit(0x63 | SIZE_BITS[size], 0, 8, off, 0);
      else if (size >= 4) this.emit(0xc3 | SIZE_BITS[size], 0, 9, off, random.pick([0x00, 0x01, 0xa1, 0xe1]));
      this.emit(0x61 | SIZE_BITS[size], 0, 0, off, 0);
      this.land(none);
    }
    this.refill();
  }

  call() {
    if (this.depth >= 2) return this.alu();
    // Arguments are what the registers hold.
    this.calls.push(this.emit(0x85, 0, 1, 0, 0));
    this.refill();
  }

  condition() {
    const { random } = this;
    const cls = random.below(3) === 0 ? JMP32 : JMP;
    const operation = random.pick(JUMPS);
    const dst = this.scalar();
    if (random.below(2) === 0) return this.emit(cls | operation | X, dst, this.scalar(), 0, 0);
    return this.emit(cls | operation, dst, 0, 0, random.s32());
  }

  branch(budget) {
    const skip = this.condition();
    this.statements(1 + this.random.below(3), budget - 1);
    if (this.random.below(2) === 0) {
      const end = this.emit(JMP, 0, 0, 0, 0);
      this.land(skip);
      this.statements(1 + this.random.below(3), budget - 1);
      this.land(end);
    } else this.land(skip);
  }

  /** A loop of straight code around a counter in r9, with its test at the end or, by a jump to itself, at the start. */
  loop() {
    const { random } = this;
    const { scalars } = this;
    const step = 1 + random.below(3);
    const count = 2 + random.below(random.below(4) === 0 ? 40 : 8);
    const limit = count * step;
    const wide = random.below(4) > 0;
    this.emit((wide ? ALU64 : ALU32) | 0xb0, 9, 0, 0, 0);
    this.scalars = scalars.filter((reg) => reg !== 9);
    const start = this.insns.length;
    // The counter ends the loop long before may_goto would.
    const mayGoto = random.below(3) === 0 ? this.emit(MAY_GOTO, 0, 0, 0, 0) : -1;
    const atStart = random.below(3) === 0;
    const leave = atStart ? this.emit((wide ? JMP : JMP32) | 0x30, 9, 0, 0, limit) : -1;
    this.statements(1 + random.below(5), 0);
    this.emit((wide ? ALU64 : ALU32) | 0x00, 9, 0, 0, step);
    if (atStart) {
      const back = this.emit(JMP, 0, 0, 0, 0);
      this.insns[back].off = start - back - 1;
      this.land(leave);
    } else {
      const operation = random.pick([0x50, 0xa0, 0xc0]);
      const back = this.emit((wide ? JMP : JMP32) | operation, 9, 0, 0, limit);
      this.insns[back].off = start - back - 1;
    }
    if (mayGoto >= 0) this.land(mayGoto);
    this.scalars = scalars;
  }

  /** `budget`: how deep branches and loops may nest; 0 is straight code. */
  statements(count, budget) {
    const { random } = this;
    for (let n = 0; n < count; n++) {
      const kind = random.below(budget > 0 ? 28 : 19);
      if (kind < 6) this.alu();
      else if (kind < 8) this.unary();
      else if (kind < 9) this.rotation();
      else if (kind < 12) this.load();
      else if (kind < 14) this.store();
      else if (kind < 15) this.wide(this.scalar(), random.s32(), random.s32());
      else if (kind < 17) this.atomic();
      else if (kind < 18) this.variable();
      else if (kind < 19) this.ordered();
      else if (kind < 21) this.branch(budget);
      else if (kind < 22) this.loop();
      else if (kind < 24) this.helper();
      else if (kind < 26) this.callback();
      else if (kind < 27) this.inner();
      else this.call();
    }
  }

  fillStack() {
    for (let n = 1; n <= STACK_WORDS; n++) this.emit(0x7a, 10, 0, -8 * n, this.random.s32());
  }

  /** r0 becomes a mixture of all numbers, folded to 32 bits. */
  finish() {
    for (const reg of this.scalars.slice(1)) {
      this.emit(ALU64 | 0x20, 0, 0, 0, 0x01000193);
      this.emit(ALU64 | 0xa0 | X, 0, reg, 0, 0);
    }
    this.emit(ALU64 | 0xb0 | X, 1, 0, 0, 0);
    this.emit(ALU64 | 0x70, 1, 0, 0, 32);
    this.emit(ALU64 | 0xa0 | X, 0, 1, 0, 0);
    this.emit(0x95, 0, 0, 0, 0);
  }
}

function shuffle(random, list) {
  const left = [...list];
  return list.map(() => left.splice(random.below(left.length), 1)[0]);
}

function main(random) {
  const w = new Writer(random, 0);
  w.hasPointers = true;
  const out = [];
  w.emit(0x61, 6, 1, 0, 0);
  w.emit(0x61, 2, 1, 4, 0);
  w.emit(ALU64 | 0xb0 | X, 3, 6, 0, 0);
  w.emit(ALU64, 3, 0, 0, PACKET_SIZE);
  out.push(w.emit(JMP | 0x20 | X, 3, 2, 0, 0));
  w.emit(0x62, 10, 0, -4, random.below(2));
  w.wide(1, 0, 0, 5);
  w.emit(ALU64 | 0xb0 | X, 2, 10, 0, 0);
  w.emit(ALU64, 2, 0, 0, -4);
  w.emit(0x85, 0, 0, 0, HELPER.lookup);
  out.push(w.emit(JMP | 0x10, 0, 0, 0, 0));
  w.emit(ALU64 | 0xb0 | X, 7, 0, 0, 0);
  w.fillStack();
  for (const reg of SCALARS) {
    if (random.below(2) === 0) w.wide(reg, random.s32(), random.s32());
    else w.emit(0x79, reg, 6, random.below(PACKET_SIZE - 7), 0);
  }
  w.statements(4 + random.below(16), 2);
  w.finish();
  for (const at of out) w.land(at);
  w.emit(ALU64 | 0xb0, 0, 0, 0, 1);
  w.emit(0x95, 0, 0, 0, 0);
  return w;
}

function subprogram(random, depth) {
  const w = new Writer(random, depth);
  w.fillStack();
  for (const reg of [0, 8, 9]) w.wide(reg, random.s32(), random.s32());
  w.statements(2 + random.below(6), 1);
  w.finish();
  return w;
}

/** What a helper calls. Its results do not depend on the order in which a hash map is gone through. */
function callbackFunction(random, kind) {
  const w = new Writer(random, 3);
  const [value, ctx] = kind === 'loop' ? [0, 2] : [3, 4];
  w.emit(ALU64 | 0xb0 | X, 6, ctx, 0, 0);
  if (kind !== 'loop') w.emit(ALU64 | 0xb0 | X, 7, value, 0, 0);
  const loadKey = kind === 'hash' ? 0x79 : 0x61;
  if (kind === 'loop') w.emit(ALU64 | 0xb0 | X, 8, 1, 0, 0);
  else w.emit(loadKey, 8, 2, 0, 0);
  w.fillStack();
  if (kind === 'loop') w.emit(0x79, 9, 6, 0, 0);
  else w.emit(0x79, 9, 7, 8 * random.below(2), 0);
  for (const reg of [0, 1, 2, 3, 4, 5]) w.wide(reg, random.s32(), random.s32());
  w.statements(1 + random.below(5), 0);
  if (random.below(2) === 0) {
    const skip = w.condition();
    w.statements(1 + random.below(3), 0);
    w.land(skip);
  }
  if (kind !== 'loop') w.emit(0x7b, 7, w.scalar(), 8 * random.below(2), 0);
  // Sums are the same in every order.
  w.emit(0xdb, 6, w.scalar(), 8 * random.below(2), 0);
  const ends = kind !== 'hash' && random.below(2) === 0 ? w.condition() : -1;
  w.emit(ALU64 | 0xb0, 0, 0, 0, 0);
  w.emit(0x95, 0, 0, 0, 0);
  if (ends >= 0) {
    w.land(ends);
    w.emit(ALU64 | 0xb0, 0, 0, 0, 1);
    w.emit(0x95, 0, 0, 0, 0);
  }
  return w;
}

/**
 * The program of a seed, as instructions; a map load has src 5 and the map's index. With `zeroExtends` it says after every 32-bit
 * compare-and-exchange that the upper half of r0 is zero, which it is anyway.
 */
export function randomProgram(seed, { zeroExtends = false } = {}) {
  const random = new Random(seed);
  random.zeroExtends = zeroExtends;
  const functions = [main(random)];
  // A call goes to a function that is deeper than its own: the first one is made where none is there.
  for (let n = 0; n < functions.length; n++) {
    for (const at of functions[n].calls) {
      let target = functions.findIndex((f) => f.depth > functions[n].depth);
      if (target < 0) target = functions.push(subprogram(random, functions[n].depth + 1)) - 1;
      functions[n].insns[at].target = target;
    }
  }
  for (const { callbacks, insns } of [...functions]) {
    for (const { at, kind } of callbacks)
      insns[at].target = functions.push(callbackFunction(random, kind)) - 1;
  }
  const starts = [];
  let length = 0;
  for (const { insns } of functions) {
    starts.push(length);
    length += insns.length;
  }
  const program = [];
  for (const { insns } of functions) {
    for (const { target, ...insn } of insns) {
      program.push(target === undefined ? insn : { ...insn, imm: starts[target] - program.length - 1 });
    }
  }
  return program;
}
